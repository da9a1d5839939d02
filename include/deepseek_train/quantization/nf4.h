// NF4, the 4-bit type of QLoRA (Dettmers et al. 2023, arXiv 2305.14314), in bitsandbytes' layout:
// blocks of 64 values of the flattened matrix, each with its absmax as the scale; two values a
// byte, the first in the high half.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "deepseek_train/core/dtype.h"

namespace deepseek_train::quantization {

inline constexpr int64_t kNf4BlockSize = 64;

// What the 16 codes stand for, ascending: quantiles of the normal distribution, scaled to [-1, 1].
extern const std::array<float, 16> kNf4Values;

constexpr int64_t nf4_blocks(int64_t count) { return (count + kNf4BlockSize - 1) / kNf4BlockSize; }

// values -> packed [(count + 1) / 2] and absmax [nf4_blocks(count)]. Each value takes the nearest
// code. Throws InvalidArgument naming the index of a value that is not finite.
void quantize_nf4(std::span<const float> values, std::span<uint8_t> packed,
                  std::span<float> absmax);

// Blocks [begin, end) of a matrix of `count` values into their places in `output` [count], rounded
// once. `packed` is the whole matrix's, `absmax` [end - begin] of these blocks. All work is done by
// the calling thread; nothing throws.
void dequantize_nf4(const uint8_t* packed, const float* absmax, int64_t begin, int64_t end,
                    int64_t count, float* output);
void dequantize_nf4(const uint8_t* packed, const float* absmax, int64_t begin, int64_t end,
                    int64_t count, BFloat16* output);

// Double quantization: the scales themselves in 8 bits, less their mean, in blocks of 256 of
// bitsandbytes' dynamic type. 0.127 bits a value in place of 0.5.
struct Nf4Scales {
  std::vector<uint8_t> codes;  // one a block of values
  std::vector<float> absmax;   // one for 256 codes
  float mean = 0;
};
Nf4Scales compress_nf4_scales(std::span<const float> absmax);
// Scales [begin, end).
void expand_nf4_scales(const Nf4Scales& scales, int64_t begin, int64_t end, float* output);

}  // namespace deepseek_train::quantization
