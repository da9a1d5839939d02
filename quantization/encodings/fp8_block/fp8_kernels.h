// The inner loops of FP8 blocks: one stretch of a row, inside one block. Every level gives the same
// bits, except for the payload of a NaN.
#pragma once

#include <cstdint>

#include "deepseek_train/core/dtype.h"
#include "deepseek_train/quantization/float8.h"
#include "deepseek_train/quantization/row_kernels.h"

namespace deepseek_train::quantization {

struct Fp8Kernels {
  SimdLevel level;

  // weight[i] = values[i] * scale.
  void (*decode_bf16)(const Float8E4M3* values, int64_t count, float scale, BFloat16* weight);
  void (*decode_f32)(const Float8E4M3* values, int64_t count, float scale, float* weight);
  // The bits of the largest magnitude, as an integer: above those of every number if one is NaN.
  uint32_t (*largest_bits_bf16)(const BFloat16* weight, int64_t count);
  uint32_t (*largest_bits_f32)(const float* weight, int64_t count);
  // values[i] = weight[i] / scale, saturated.
  void (*encode_bf16)(const BFloat16* weight, int64_t count, float scale, Float8E4M3* values);
  void (*encode_f32)(const float* weight, int64_t count, float scale, Float8E4M3* values);
};

const Fp8Kernels& portable_fp8_kernels();
// nullptr if this build or this CPU does not have the level.
const Fp8Kernels* find_fp8_kernels(SimdLevel level);
// The fastest this CPU supports.
const Fp8Kernels& fp8_kernels();

}  // namespace deepseek_train::quantization
