// Loops of constant length over one block, which the compiler turns into vector code for three
// instruction sets. Compiled without contraction to fused multiply-add, so that all give the same.
#include "collectives/algorithms/block_int8.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace deepseek_train::collectives {
namespace {

constexpr size_t kSize = BlockInt8::kSize;
constexpr uint32_t kInfinityBits = 0x7f800000;
// Adding it leaves a float of magnitude below 2^22 rounded to a whole number in its last bits.
constexpr float kRounder = 0x1.8p23f;

struct Scales {
  float step;     // of one code
  float inverse;  // codes in one unit
};

// Magnitudes of floats are ordered as their bits are, NaN above all.
[[gnu::always_inline]] inline Scales scales_of(const float* values) {
  uint32_t largest = 0;
  for (size_t i = 0; i < kSize; ++i)
    largest = std::max(largest, std::bit_cast<uint32_t>(values[i]) & 0x7fffffff);
  if (largest >= kInfinityBits) return {std::numeric_limits<float>::quiet_NaN(), 0};
  const float magnitude = std::bit_cast<float>(largest);
  if (magnitude < 0x1p-100f) return {0, 0};
  return {magnitude / 127, 127 / magnitude};
}

// `codes` 0 where the value is not finite: the scale says it.
[[gnu::always_inline]] inline void quantize_full(const float* values, BlockInt8& block,
                                                 float* __restrict residual) {
  const Scales scales = scales_of(values);
  block.scale = scales.step;
  if (scales.inverse == 0) {
    std::fill_n(block.codes, kSize, int8_t{0});
    const bool is_zero = scales.step == 0;
    for (size_t i = 0; i < kSize; ++i) residual[i] = is_zero ? values[i] : 0.0f;
    return;
  }
  int32_t codes[kSize];
  for (size_t i = 0; i < kSize; ++i)
    codes[i] = std::bit_cast<int32_t>(values[i] * scales.inverse + kRounder) -
               std::bit_cast<int32_t>(kRounder);
  for (size_t i = 0; i < kSize; ++i) block.codes[i] = static_cast<int8_t>(codes[i]);
  for (size_t i = 0; i < kSize; ++i) {
    const float lost = values[i] - scales.step * static_cast<float>(codes[i]);
    residual[i] = lost - lost == 0 ? lost : 0.0f;
  }
}

[[gnu::always_inline]] inline void quantize_all(const float* values, size_t count,
                                                BlockInt8* blocks, float* residual) {
  float lost[kSize];
  for (; count >= kSize; count -= kSize, values += kSize, ++blocks) {
    quantize_full(values, *blocks, lost);
    if (residual) residual = std::copy_n(lost, kSize, residual);
  }
  if (count == 0) return;
  float padded[kSize] = {};
  std::copy_n(values, count, padded);
  quantize_full(padded, *blocks, lost);
  if (residual) std::copy_n(lost, count, residual);
}

[[gnu::always_inline]] inline void dequantize_all(const BlockInt8* blocks, float* values,
                                                  size_t count) {
  for (; count >= kSize; count -= kSize, values += kSize, ++blocks) {
    for (size_t i = 0; i < kSize; ++i)
      values[i] = blocks->scale * static_cast<float>(blocks->codes[i]);
  }
  for (size_t i = 0; i < count; ++i)
    values[i] = blocks->scale * static_cast<float>(blocks->codes[i]);
}

// The same loops, compiled for three instruction sets.
void quantize_portable(const float* values, size_t count, BlockInt8* blocks, float* residual) {
  quantize_all(values, count, blocks, residual);
}
void dequantize_portable(const BlockInt8* blocks, float* values, size_t count) {
  dequantize_all(blocks, values, count);
}
#if defined(__x86_64__)
#define DST_AVX512 "avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"
[[gnu::target("avx2")]] void quantize_avx2(const float* values, size_t count, BlockInt8* blocks,
                                           float* residual) {
  quantize_all(values, count, blocks, residual);
}
[[gnu::target("avx2")]] void dequantize_avx2(const BlockInt8* blocks, float* values, size_t count) {
  dequantize_all(blocks, values, count);
}
[[gnu::target(DST_AVX512)]] void quantize_avx512(const float* values, size_t count,
                                                 BlockInt8* blocks, float* residual) {
  quantize_all(values, count, blocks, residual);
}
[[gnu::target(DST_AVX512)]] void dequantize_avx512(const BlockInt8* blocks, float* values,
                                                   size_t count) {
  dequantize_all(blocks, values, count);
}
#endif

struct Kernels {
  decltype(&quantize_portable) quantize;
  decltype(&dequantize_portable) dequantize;
};

Kernels fastest_kernels() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return {quantize_avx512, dequantize_avx512};
  if (__builtin_cpu_supports("avx2")) return {quantize_avx2, dequantize_avx2};
#endif
  return {quantize_portable, dequantize_portable};
}

}  // namespace

void quantize_blocks(const float* values, size_t count, BlockInt8* blocks, float* residual) {
  fastest_kernels().quantize(values, count, blocks, residual);
}

void dequantize_blocks(const BlockInt8* blocks, float* values, size_t count) {
  fastest_kernels().dequantize(blocks, values, count);
}

}  // namespace deepseek_train::collectives
