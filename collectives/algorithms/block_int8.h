// 256 floats as 256 bytes and a scale.
#pragma once

#include <cstddef>
#include <cstdint>

namespace deepseek_train::collectives {

struct BlockInt8 {
  static constexpr size_t kSize = 256;
  float scale;  // value = scale * code; NaN: the block held something not finite
  int8_t codes[kSize];
};
static_assert(sizeof(BlockInt8) == 260);

// Symmetric: the largest magnitude becomes 127. |value - scale * code| <= (1/254 + 2^-22) times the
// largest magnitude, which, below 2^-100, counts as zero. residual (may be null) = value - scale *
// code, 0 where that is not finite. The last block may be cut: its other codes are 0.
void quantize_blocks(const float* values, size_t count, BlockInt8* blocks, float* residual);
void dequantize_blocks(const BlockInt8* blocks, float* values, size_t count);

}  // namespace deepseek_train::collectives
