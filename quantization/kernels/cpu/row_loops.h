// The loops of the row kernels, written once over a policy of vector operations.
//
// A translation unit includes this after its own `#pragma GCC target` and instantiates
// row_loops<Policy>(). All is in an unnamed namespace on purpose: no function compiled for AVX-512
// may be merged with its namesake of another unit. For the same reason nothing of std:: with a body
// is called here. Built with -ffp-contract=off: a fused multiply-add would round differently from
// one level to the next.
#pragma once

#include <cstdint>

#include "deepseek_train/core/dtype.h"
#include "deepseek_train/quantization/int8.h"
#include "deepseek_train/quantization/row_kernels.h"

namespace deepseek_train::quantization {
namespace {

// One lane: the portable level, and the end of a row at every other level.
struct Scalar {
  static constexpr int64_t kLanes = 1;
  using Floats = float;
  using Bits = uint32_t;

  static Floats load(const float* p) { return *p; }
  static Floats load(const BFloat16* p) {
    return __builtin_bit_cast(float, uint32_t{p->bits} << 16);
  }
  static Floats load(const int32_t* p) { return static_cast<float>(*p); }
  static Floats broadcast(float x) { return x; }

  static void store(float* p, Floats x) { *p = x; }
  static void store(BFloat16* p, Floats x) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, x);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    const uint32_t rounded = nan ? bits | 0x400000u : bits + 0x7fffu + ((bits >> 16) & 1u);
    p->bits = static_cast<uint16_t>(rounded >> 16);
  }
  // Rounds half to even and saturates; NaN becomes -128.
  static void store_rounded(int8_t* p, Floats quotient) {
    const float level = at_most(127.0f, round(quotient));
    *p = level >= -128.0f ? static_cast<int8_t>(level) : int8_t{-128};
  }
  static void store_rounded(uint8_t* p, Floats quotient) {
    int8_t q;
    store_rounded(&q, quotient);
    *p = static_cast<uint8_t>(q + kUint8ZeroPoint);
  }

  static Floats add(Floats a, Floats b) { return a + b; }
  static Floats multiply(Floats a, Floats b) { return a * b; }
  static Floats round(Floats x) { return __builtin_rintf(x); }
  // Both keep a NaN in x.
  static Floats at_least(float bound, Floats x) { return bound > x ? bound : x; }
  static Floats at_most(float bound, Floats x) { return bound < x ? bound : x; }

  static Bits no_bits() { return 0; }
  static Bits magnitude_bits(Floats x) { return __builtin_bit_cast(uint32_t, x) & 0x7fffffffu; }
  static Bits larger(Bits a, Bits b) { return a > b ? a : b; }
  static uint32_t largest_of(Bits bits) { return bits; }

  // Divides the values of a row by its scale.
  struct Divider {
    explicit Divider(float row_scale) : scale(row_scale) {}
    Floats operator()(Floats x) const { return x / scale; }
    float scale;
  };
  // The policy for rows whose scale is ordinary (see below): the same bits, perhaps faster.
  using ForOrdinaryScales = Scalar;
};

// Magnitudes are compared as integers: their order is that of the floats, and a NaN is larger than
// everything.
template <typename Simd, typename T>
float absmax(const T* row, int64_t count) {
  typename Simd::Bits even = Simd::no_bits(), odd = Simd::no_bits();
  int64_t i = 0;
  for (; i + 2 * Simd::kLanes <= count; i += 2 * Simd::kLanes) {
    even = Simd::larger(even, Simd::magnitude_bits(Simd::load(row + i)));
    odd = Simd::larger(odd, Simd::magnitude_bits(Simd::load(row + i + Simd::kLanes)));
  }
  uint32_t largest = Simd::largest_of(Simd::larger(even, odd));
  for (; i < count; ++i) {
    largest = Scalar::larger(largest, Scalar::magnitude_bits(Scalar::load(row + i)));
  }
  return __builtin_bit_cast(float, largest);
}

// The quotient rounded to an integer, as a float. The added zero turns -0 into +0, as
// compressed-tensors' zero point does; small negative values still round to -0. Both bounds are
// needed: a denormal scale is so coarse that quotients reach far beyond 127.5.
template <typename Simd>
typename Simd::Floats level_of(typename Simd::Floats quotient) {
  const auto level = Simd::round(Simd::add(quotient, Simd::broadcast(0.0f)));
  return Simd::at_most(127.0f, Simd::at_least(-128.0f, level));
}

// Calls step(Simd{}, i) for whole vectors, then step(Scalar{}, i) for what is left.
template <typename Simd, typename Step>
inline __attribute__((always_inline)) void for_each_vector(int64_t count, const Step& step) {
  int64_t i = 0;
  for (; i + Simd::kLanes <= count; i += Simd::kLanes) step(Simd{}, i);
  for (; i < count; ++i) step(Scalar{}, i);
}

template <typename Simd, typename In, typename Byte>
void quantize_row(const In* x, int64_t columns, float scale, Byte* q) {
  const typename Simd::Divider divide(scale);
  const Scalar::Divider divide_one(scale);
  int64_t i = 0;
  for (; i + Simd::kLanes <= columns; i += Simd::kLanes) {
    Simd::store_rounded(q + i, divide(Simd::load(x + i)));
  }
  for (; i < columns; ++i) Scalar::store_rounded(q + i, divide_one(Scalar::load(x + i)));
}

template <typename Simd, typename In, typename Out>
void fake_quantize_row(const In* x, int64_t columns, float scale, Out* output) {
  const typename Simd::Divider divide(scale);
  const Scalar::Divider divide_one(scale);
  const auto scales = Simd::broadcast(scale);
  int64_t i = 0;
  for (; i + Simd::kLanes <= columns; i += Simd::kLanes) {
    Simd::store(output + i, Simd::multiply(level_of<Simd>(divide(Simd::load(x + i))), scales));
  }
  for (; i < columns; ++i) {
    Scalar::store(output + i, level_of<Scalar>(divide_one(Scalar::load(x + i))) * scale);
  }
}

// Within this range neither 1 / scale nor the remainder of a division leaves the normal numbers.
inline bool is_ordinary(float scale) { return scale > 0x1p-90f && scale < 0x1p+90f; }

template <typename Simd, typename In, typename Byte>
void quantize(const In* x, int64_t rows, int64_t columns, Byte* q, float* scales) {
  for (int64_t r = 0; r < rows; ++r, x += columns, q += columns) {
    const float scale = scales[r] = symmetric_int8_scale(absmax<Simd>(x, columns));
    const auto one_row = is_ordinary(scale)
                             ? quantize_row<typename Simd::ForOrdinaryScales, In, Byte>
                             : quantize_row<Simd, In, Byte>;
    one_row(x, columns, scale, q);
  }
}

template <typename Simd, typename In, typename Out>
void fake_quantize(const In* x, int64_t rows, int64_t columns, Out* output) {
  for (int64_t r = 0; r < rows; ++r, x += columns, output += columns) {
    const float scale = symmetric_int8_scale(absmax<Simd>(x, columns));
    const auto one_row = is_ordinary(scale)
                             ? fake_quantize_row<typename Simd::ForOrdinaryScales, In, Out>
                             : fake_quantize_row<Simd, In, Out>;
    one_row(x, columns, scale, output);
  }
}

template <typename Simd, bool kBias, typename In, typename Out>
void rescale_row(const In* product, int64_t columns, float row_scale, const OutputScales& scales,
                 Out* output) {
  for_each_vector<Simd>(columns, [=](auto simd, int64_t i) {
    using S = decltype(simd);
    const auto by_channel = S::multiply(S::load(product + i), S::load(scales.channels + i));
    auto y = S::multiply(by_channel, S::broadcast(row_scale));
    if constexpr (kBias) y = S::add(y, S::load(scales.bias + i));
    S::store(output + i, y);
  });
}

template <typename Simd, typename In, typename Out>
void rescale(const In* product, int64_t rows, int64_t columns, const OutputScales& scales,
             Out* output) {
  const auto one_row =
      scales.bias ? rescale_row<Simd, true, In, Out> : rescale_row<Simd, false, In, Out>;
  for (int64_t r = 0; r < rows; ++r, product += columns, output += columns) {
    one_row(product, columns, scales.rows[r], scales, output);
  }
}

template <typename Simd>
constexpr RowKernels row_loops(SimdLevel level) {
  return {.level = level,
          .absmax = absmax<Simd, float>,
          .quantize_f32_s8 = quantize<Simd, float, int8_t>,
          .quantize_f32_u8 = quantize<Simd, float, uint8_t>,
          .quantize_bf16_s8 = quantize<Simd, BFloat16, int8_t>,
          .quantize_bf16_u8 = quantize<Simd, BFloat16, uint8_t>,
          .fake_quantize_f32_f32 = fake_quantize<Simd, float, float>,
          .fake_quantize_f32_bf16 = fake_quantize<Simd, float, BFloat16>,
          .fake_quantize_bf16_bf16 = fake_quantize<Simd, BFloat16, BFloat16>,
          .rescale_s32_f32 = rescale<Simd, int32_t, float>,
          .rescale_s32_bf16 = rescale<Simd, int32_t, BFloat16>,
          .rescale_f32_f32 = rescale<Simd, float, float>,
          .rescale_f32_bf16 = rescale<Simd, float, BFloat16>};
}

}  // namespace
}  // namespace deepseek_train::quantization
