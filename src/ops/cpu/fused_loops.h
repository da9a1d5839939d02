// The loops themselves, written so that the compiler vectorizes them for the function they are
// inlined into. Sums run in kLanes separate accumulators, in the same order whatever the processor.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "deepseek_train/core/dtype.h"

#define DST_LOOP [[gnu::always_inline]] inline

namespace deepseek_train::ops::loops {

inline constexpr int64_t kLanes = 32;

DST_LOOP float load(const float& x) { return x; }
DST_LOOP float load(const BFloat16& x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }
DST_LOOP void store(float& to, float x) { to = x; }
// Nearest, ties to even; without core's care for the payload of a NaN, which stays a NaN.
DST_LOOP void store(BFloat16& to, float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to.bits = static_cast<uint16_t>(x == x ? rounded : (bits >> 16) | 0x40u);
}

// exp within 2 units in the last place: 2^n times a polynomial (the Taylor series on half a
// binade). Below -87 it is about 1e-38 in place of less.
DST_LOOP float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  const float n = (x * 1.44269504f + kRound) - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

DST_LOOP float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

// Sum of term(i), i below count.
template <typename Term>
DST_LOOP float sum(int64_t count, const Term& term) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += term(i + lane);
  for (; i < count; ++i) lanes[i % kLanes] += term(i);
  for (int64_t width = kLanes / 2; width > 0; width /= 2)
    for (int64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  return lanes[0];
}

template <typename T>
DST_LOOP void rms_norm(const T* x, const float* weight, int64_t rows, int64_t columns, float eps,
                       T* y, float* inverse) {
  for (int64_t row = 0; row < rows; ++row, x += columns, y += columns) {
    const float squares = sum(
        columns, [&](int64_t i) __attribute__((always_inline)) { return load(x[i]) * load(x[i]); });
    const float r = 1.0f / std::sqrt(squares / static_cast<float>(columns) + eps);
    inverse[row] = r;
    for (int64_t i = 0; i < columns; ++i) store(y[i], load(x[i]) * r * weight[i]);
  }
}

// With n = x r: dx = r (g w - n mean(g w n)), dw = sum over rows of g n.
template <typename T>
DST_LOOP void rms_norm_backward(const T* g, const T* x, const float* weight, const float* inverse,
                                int64_t rows, int64_t columns, T* dx, float* dw) {
  for (int64_t row = 0; row < rows; ++row, g += columns, x += columns, dx += columns) {
    const float r = inverse[row];
    const float dot = sum(
        columns, [&](int64_t i) __attribute__((always_inline)) {
          return load(g[i]) * weight[i] * load(x[i]);
        });
    const float mean = dot * r * r / static_cast<float>(columns);
    for (int64_t i = 0; i < columns; ++i)
      store(dx[i], r * (load(g[i]) * weight[i] - load(x[i]) * mean));
    if (dw)
      for (int64_t i = 0; i < columns; ++i) dw[i] += load(g[i]) * load(x[i]) * r;
  }
}

template <typename T>
DST_LOOP void swiglu(const T* gate, const T* up, int64_t count, T* y) {
  for (int64_t i = 0; i < count; ++i) {
    const float z = load(gate[i]);
    store(y[i], z * sigmoid(z) * load(up[i]));
  }
}

template <typename T>
DST_LOOP void swiglu_backward(const T* g, const T* gate, const T* up, int64_t count, T* dgate,
                              T* dup) {
  for (int64_t i = 0; i < count; ++i) {
    const float z = load(gate[i]), s = sigmoid(z), gradient = load(g[i]), u = load(up[i]);
    store(dup[i], gradient * z * s);
    store(dgate[i], gradient * u * s * (1.0f + z * (1.0f - s)));
  }
}

template <typename T>
DST_LOOP void rotate_halves(const T* x, const T* cos, const T* sin, int64_t half, float direction,
                            T* y) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = load(x[i]), b = load(x[i + half]);
    const float c = load(cos[i]), s = direction * load(sin[i]);
    store(y[i], a * c - b * s);
    store(y[i + half], b * c + a * s);
  }
}

}  // namespace deepseek_train::ops::loops
