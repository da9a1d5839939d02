#include "src/ops/cpu/matvec.h"

#include <bit>

namespace deepseek_train::ops {
namespace {

#define DST_INLINE [[gnu::always_inline]] inline

DST_INLINE float widen(float value) { return value; }
DST_INLINE float widen(bfloat16_bits value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

// Independent sums side by side, so that the compiler may use whole vectors, several at a time.
template <typename T>
DST_INLINE float dot(const T* weight, const float* x, int64_t K) {
  constexpr int kLanes = 64;
  float sums[kLanes] = {};
  int64_t k = 0;
  for (; k + kLanes <= K; k += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] += widen(weight[k + lane]) * x[k + lane];
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
  for (; k < K; ++k) sums[0] += widen(weight[k]) * x[k];
  return sums[0];
}

template <typename T>
DST_INLINE void all_rows(const T* weight, const float* x, int64_t rows, int64_t K, float* y) {
  for (int64_t row = 0; row < rows; ++row) y[row] = dot(weight + row * K, x, K);
}

template <typename T>
void portable(const T* weight, const float* x, int64_t rows, int64_t K, float* y) {
  all_rows(weight, x, rows, K, y);
}

template <typename T>
using Kernel = void (*)(const T*, const float*, int64_t, int64_t, float*);

#if defined(__x86_64__)
template <typename T>
[[gnu::target("avx2,fma")]] void avx2(const T* weight, const float* x, int64_t rows, int64_t K,
                                      float* y) {
  all_rows(weight, x, rows, K, y);
}

template <typename T>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")]] void avx512(
    const T* weight, const float* x, int64_t rows, int64_t K, float* y) {
  all_rows(weight, x, rows, K, y);
}

template <typename T>
Kernel<T> choose() {
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return avx512<T>;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2<T>;
  return portable<T>;
}
#else
template <typename T>
Kernel<T> choose() {
  return portable<T>;
}
#endif

}  // namespace

void matvec(const float* weight, const float* x, int64_t rows, int64_t K, float* y) {
  static const auto kernel = choose<float>();
  kernel(weight, x, rows, K, y);
}

void matvec(const bfloat16_bits* weight, const float* x, int64_t rows, int64_t K, float* y) {
  static const auto kernel = choose<bfloat16_bits>();
  kernel(weight, x, rows, K, y);
}

}  // namespace deepseek_train::ops
