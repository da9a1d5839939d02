// Adds with TwoSum, which gives the rounding error of an addition exactly (Knuth, The Art of
// Computer Programming 2, 4.2.2). Floats are added in double: as long as no error appears, the
// double is the exact sum, and one conversion rounds it. Doubles are added in a pair of doubles: as
// long as no error falls out of the lower one, the pair is the exact sum, and adding its halves
// rounds it once. Elements for which that fails (too wide a range of exponents, overflow, NaN) are
// done again in a superaccumulator.
#include "collectives/algorithms/exact_sum.h"

#include <algorithm>
#include <vector>

#include "collectives/algorithms/exact_sum_accumulator.h"

namespace deepseek_train::collectives {
namespace {

constexpr size_t kBlock = 256;  // elements; all of a block's state stays in the first-level cache

// Returns fl(a + b); error = a + b - fl(a + b), or not zero where that has no finite value.
[[gnu::always_inline]] inline double two_sum(double a, double b, double& error) {
  const double sum = a + b;
  const double b_part = sum - a;
  error = (a - (sum - b_part)) + (b - b_part);
  return sum;
}

// Where the exact sum was missed, inexact[i] is not zero. NaN counts as not zero.
[[gnu::always_inline]] inline void try_sum(std::span<const float* const> terms, size_t offset,
                                           size_t count, float* __restrict result,
                                           double* __restrict inexact) {
  double sum[kBlock];
  for (size_t i = 0; i < count; ++i) sum[i] = -0.0;  // which adds nothing, not even to -0
  for (size_t i = 0; i < count; ++i) inexact[i] = 0;
  for (const float* term : terms) {
    const float* values = term + offset;
    for (size_t i = 0; i < count; ++i) {
      double error;
      sum[i] = two_sum(sum[i], values[i], error);
      inexact[i] = error != 0 ? 1.0 : inexact[i];
    }
  }
  for (size_t i = 0; i < count; ++i) result[i] = static_cast<float>(sum[i]);
}

[[gnu::always_inline]] inline void try_sum(std::span<const double* const> terms, size_t offset,
                                           size_t count, double* __restrict result,
                                           double* __restrict inexact) {
  double high[kBlock];
  double low[kBlock];
  for (size_t i = 0; i < count; ++i) high[i] = -0.0;
  for (size_t i = 0; i < count; ++i) low[i] = -0.0;
  for (size_t i = 0; i < count; ++i) inexact[i] = 0;
  for (const double* term : terms) {
    const double* values = term + offset;
    for (size_t i = 0; i < count; ++i) {
      double carried, lost;
      high[i] = two_sum(high[i], values[i], carried);
      // An error of +0 must not turn the -0 of "nothing yet" into +0 before the end.
      low[i] = two_sum(low[i], carried != 0 ? carried : -0.0, lost);
      inexact[i] = lost != 0 ? 1.0 : inexact[i];
    }
  }
  for (size_t i = 0; i < count; ++i) {
    result[i] = high[i] + low[i];
    // A rounded half overflowed although the exact sum may not.
    inexact[i] = result[i] - result[i] != 0 ? 1.0 : inexact[i];
  }
}

// The same loops, compiled for three instruction sets.
template <typename T>
void try_sum_portable(std::span<const T* const> terms, size_t offset, size_t count, T* result,
                      double* inexact) {
  try_sum(terms, offset, count, result, inexact);
}
#if defined(__x86_64__)
template <typename T>
[[gnu::target("avx2")]] void try_sum_avx2(std::span<const T* const> terms, size_t offset,
                                          size_t count, T* result, double* inexact) {
  try_sum(terms, offset, count, result, inexact);
}
template <typename T>
[[gnu::target("avx512f,avx512dq,avx512vl,prefer-vector-width=512")]] void try_sum_avx512(
    std::span<const T* const> terms, size_t offset, size_t count, T* result, double* inexact) {
  try_sum(terms, offset, count, result, inexact);
}
#endif

template <typename T>
auto fastest_try_sum() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return try_sum_avx512<T>;
  if (__builtin_cpu_supports("avx2")) return try_sum_avx2<T>;
#endif
  return try_sum_portable<T>;
}

template <typename T>
T sum_of_element(std::span<const T* const> terms, size_t index) {
  ExactSumAccumulator<T> accumulator;
  for (const T* term : terms) accumulator.add(term[index]);
  return accumulator.round();
}

template <typename T>
void sum_blocks(std::span<const T* const> terms, T* sum, size_t count) {
  if (terms.empty()) {
    std::fill_n(sum, count, T{0});
    return;
  }
  const auto try_block = fastest_try_sum<T>();
  T result[kBlock];
  double inexact[kBlock];
  for (size_t offset = 0; offset < count; offset += kBlock) {
    const size_t size = std::min(kBlock, count - offset);
    try_block(terms, offset, size, result, inexact);
    for (size_t i = 0; i < size; ++i) {
      if (inexact[i] != 0) result[i] = sum_of_element(terms, offset + i);
    }
    std::copy_n(result, size, sum + offset);
  }
}

}  // namespace

void exact_sum(std::span<const float* const> terms, float* sum, size_t count) {
  sum_blocks(terms, sum, count);
}

void exact_sum(std::span<const double* const> terms, double* sum, size_t count) {
  sum_blocks(terms, sum, count);
}

}  // namespace deepseek_train::collectives
