// Test data and naive references for the collectives' tests.
#pragma once

#include <cstring>
#include <random>
#include <vector>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::collectives::testing {

// The reference's own conversions; exact for bf16 and fp16, whose values all are floats.
template <typename T>
auto wide(T value) {
  if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>)
    return to_float(value);
  else if constexpr (sizeof(T) == 1)
    return static_cast<int32_t>(value);
  else
    return value;
}
template <typename T>
T narrow(decltype(wide(T{})) value) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return to_bfloat16(value);
  else if constexpr (std::is_same_v<T, Float16>)
    return to_float16(value);
  else
    return static_cast<T>(value);
}

// Of mixed sign and size, so that different orders of summation give different bits.
template <typename T>
std::vector<T> random_values(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<T> values(count);
  for (auto& value : values) {
    const auto mantissa = static_cast<float>(static_cast<int32_t>(generator()) >> 8);
    value = narrow<T>(
        static_cast<decltype(wide(T{}))>(mantissa * (generator() % 2 ? 0x1p-13f : 0x1p-17f)));
  }
  return values;
}

// Small whole numbers: every order of summation is exact, in every type.
template <typename T>
std::vector<T> exact_values(size_t count, int rank) {
  std::vector<T> values(count);
  for (size_t i = 0; i < count; ++i)
    values[i] =
        narrow<T>(static_cast<decltype(wide(T{}))>(static_cast<int>((i * 7 + rank * 5) % 17) - 8));
  return values;
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <typename W>
W combine(W a, W b, ReduceOp op) {
  if (op == ReduceOp::kMin) return b < a ? b : a;
  if (op == ReduceOp::kMax) return b > a ? b : a;
  if constexpr (std::is_integral_v<W>) {
    if (op == ReduceOp::kAnd) return a & b;
    if (op == ReduceOp::kOr) return a | b;
    const auto left = static_cast<uint64_t>(a), right = static_cast<uint64_t>(b);
    return static_cast<W>(op == ReduceOp::kProd ? left * right : left + right);
  }
  return op == ReduceOp::kProd ? a * b : a + b;
}

// The order of design section 7 written as plainly as possible: one level of neighbours after
// another.
template <typename T>
T tree_of(std::vector<decltype(wide(T{}))>& level, ReduceOp op) {
  const size_t num_ranks = level.size();
  for (size_t width = num_ranks; width > 1; width = (width + 1) / 2) {
    for (size_t i = 0; i < width / 2; ++i) level[i] = combine(level[2 * i], level[2 * i + 1], op);
    if (width % 2) level[width / 2] = level[width - 1];
  }
  if (op == ReduceOp::kAvg) level[0] /= static_cast<decltype(wide(T{}))>(num_ranks);
  return narrow<T>(level[0]);
}

// What every rank must hold after all_reduce, from all ranks' inputs.
template <typename T>
std::vector<T> reduced(const std::vector<std::vector<T>>& inputs, ReduceOp op) {
  std::vector<T> result(inputs[0].size());
  std::vector<decltype(wide(T{}))> level(inputs.size());
  for (size_t i = 0; i < result.size(); ++i) {
    for (size_t r = 0; r < inputs.size(); ++r) level[r] = wide(inputs[r][i]);
    result[i] = tree_of<T>(level, op);
  }
  return result;
}

// All ranks' inputs and the expected result, made once for all rank threads.
template <typename T>
struct Reduction {
  Reduction(int num_ranks, size_t count, ReduceOp op) : op(op) {
    for (int r = 0; r < num_ranks; ++r) inputs.push_back(random_values<T>(count, 100 * r + 1));
    expected = reduced(inputs, op);
  }
  ReduceOp op;
  std::vector<std::vector<T>> inputs;
  std::vector<T> expected;
};

}  // namespace deepseek_train::collectives::testing
