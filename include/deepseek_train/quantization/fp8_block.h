// DeepSeek's FP8 weights: e4m3 values with one scale for each block of 128 x 128, weight = value *
// scale. Sources: deepseek-ai/DeepSeek-V3, README_WEIGHTS.md and inference/fp8_cast_bf16.py; V3.1's
// scale_fmt "ue8m0".
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "deepseek_train/core/dtype.h"
#include "deepseek_train/quantization/float8.h"

namespace deepseek_train::quantization {

inline constexpr int64_t kFp8BlockSize = 128;

// kFloat32: largest magnitude of the block / 448. kUe8m0: that, rounded up to a power of two.
enum class Fp8ScaleFormat { kFloat32, kUe8m0 };

// A weight [rows, columns]; blocks at the right and lower edge may be narrower than 128. Its scales
// are [ceil(rows / 128), ceil(columns / 128)], row-major.
struct Fp8BlockShape {
  int64_t rows = 0;
  int64_t columns = 0;

  int64_t block_rows() const { return (rows + kFp8BlockSize - 1) / kFp8BlockSize; }
  int64_t block_columns() const { return (columns + kFp8BlockSize - 1) / kFp8BlockSize; }
  int64_t num_values() const { return rows * columns; }
  int64_t num_scales() const { return block_rows() * block_columns(); }
};

// values * scales, rounded to float32 and then to the output's type (nearest, ties to even): the
// bits of DeepSeek's own converter. A NaN value or scale gives NaN. Both are dense and
// row-major. One thread does all; to use more, give each some rows of blocks. Throws
// InvalidArgument if a span's size is not the shape's. About 3 * 10^9 values a second on one
// AVX-512 core.
void decode_fp8_blocks(const Fp8BlockShape& shape, std::span<const Float8E4M3> values,
                       std::span<const float> scales, std::span<BFloat16> weight);
void decode_fp8_blocks(const Fp8BlockShape& shape, std::span<const Float8E4M3> values,
                       std::span<const float> scales, std::span<float> weight);

// scale = max(largest magnitude of the block, 1e-4) / 448, then (kUe8m0) up to a power of two. An
// edge block's scale is that of its own values. Throws InvalidArgument naming the first block that
// holds a NaN or an infinity, which no scale could carry, or if a span's size is not the shape's.
void compute_fp8_block_scales(const Fp8BlockShape& shape, std::span<const BFloat16> weight,
                              Fp8ScaleFormat format, std::span<float> scales);
void compute_fp8_block_scales(const Fp8BlockShape& shape, std::span<const float> weight,
                              Fp8ScaleFormat format, std::span<float> scales);

// weight / scale, rounded to float32 and then to e4m3 (nearest, ties to even), saturated at 448.
// Scales are positive and finite. Speed and threads as for decode_fp8_blocks.
void encode_fp8_blocks(const Fp8BlockShape& shape, std::span<const BFloat16> weight,
                       std::span<const float> scales, std::span<Float8E4M3> values);
void encode_fp8_blocks(const Fp8BlockShape& shape, std::span<const float> weight,
                       std::span<const float> scales, std::span<Float8E4M3> values);

}  // namespace deepseek_train::quantization
