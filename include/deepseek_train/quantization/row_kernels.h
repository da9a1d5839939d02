// The CPU kernels around an integer product: quantize rows before it, scale its result after it,
// and do both in one step for training. A row is a token of the activations or an output channel of
// the weight.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "deepseek_train/core/dtype.h"

namespace deepseek_train::quantization {

enum class SimdLevel { kPortable, kAvx2, kAvx512 };

// "portable", "avx2", "avx512".
std::string_view name_of(SimdLevel level);

// output[m][n] = product[m][n] * channels[n] * rows[m] + bias[n], rounded once after each
// operation, left to right.
struct OutputScales {
  const float* rows = nullptr;      // [M]
  const float* channels = nullptr;  // [N]
  const float* bias = nullptr;      // [N], or nullptr
};

// One implementation of every kernel. Matrices are row-major and dense, without alignment; `rows`
// and `columns` may be 0. All work is done by the calling thread: split the rows over threads and
// offset the pointers. Nothing throws. Every implementation gives the same bits, except for the
// payload of a NaN. A row that holds a NaN gets a NaN scale. Each reads its input from memory once
// (the second pass over a row comes from cache) and writes its output once.
struct RowKernels {
  SimdLevel level;

  // Largest magnitude; NaN if there is one among the values.
  float (*absmax)(const float* values, int64_t count);

  // x [rows, columns] -> q of the same shape and scales [rows], as int8.h says. u8 is q + 128.
  // Where the scale is NaN the bytes are -128 (u8: 0), so that the product stays defined.
  void (*quantize_f32_s8)(const float* x, int64_t rows, int64_t columns, int8_t* q, float* scales);
  void (*quantize_f32_u8)(const float* x, int64_t rows, int64_t columns, uint8_t* q, float* scales);
  void (*quantize_bf16_s8)(const BFloat16* x, int64_t rows, int64_t columns, int8_t* q,
                           float* scales);
  void (*quantize_bf16_u8)(const BFloat16* x, int64_t rows, int64_t columns, uint8_t* q,
                           float* scales);

  // x -> q * scale, rounded to the output's type (nearest, ties to even). Input and output may be
  // the same memory where their types are.
  void (*fake_quantize_f32_f32)(const float* x, int64_t rows, int64_t columns, float* output);
  void (*fake_quantize_f32_bf16)(const float* x, int64_t rows, int64_t columns, BFloat16* output);
  void (*fake_quantize_bf16_bf16)(const BFloat16* x, int64_t rows, int64_t columns,
                                  BFloat16* output);

  // The epilogue. `product` and `output` may be the same memory where their types are.
  void (*rescale_s32_f32)(const int32_t* product, int64_t rows, int64_t columns,
                          const OutputScales& scales, float* output);
  void (*rescale_s32_bf16)(const int32_t* product, int64_t rows, int64_t columns,
                           const OutputScales& scales, BFloat16* output);
  void (*rescale_f32_f32)(const float* product, int64_t rows, int64_t columns,
                          const OutputScales& scales, float* output);
  void (*rescale_f32_bf16)(const float* product, int64_t rows, int64_t columns,
                           const OutputScales& scales, BFloat16* output);
};

// The fastest this CPU and its operating system support, found once. Thread-safe.
const RowKernels& row_kernels();

// For tests and benches. The portable level is always among the supported ones.
std::vector<SimdLevel> supported_simd_levels();
// Throws Unavailable if this CPU, or this build, does not have the level.
const RowKernels& row_kernels(SimdLevel level);

}  // namespace deepseek_train::quantization
