// One call of a collective, as a value: what the typed functions of Communicator build, what a
// backend gets, and what a group of calls is made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <type_traits>
#include <vector>

#include "deepseek_train/collectives/reduce_op.h"
#include "deepseek_train/core/dtype.h"

namespace deepseek_train::collectives {

enum class Collective : uint8_t {
  kAllReduce,
  kReduceScatter,
  kAllGather,
  kBroadcast,
  kBarrier,
  kAllToAll,
  kGather,
  kScatter
};

// Buffers are borrowed until the call has completed. Sizes are in elements:
//
//   kind            in                        out
//   all_reduce      count                     count, the same memory
//   broadcast       count (at the root)       count, the same memory
//   reduce_scatter  size * count              count
//   all_gather      count                     size * count
//   all_to_all      size * count              size * count
//   gather          count                     size * count at the root, unused elsewhere
//   scatter         size * count at the root  count
//
// With `in_counts` (reduce_scatter, all_to_all, scatter) or `out_counts` (all_gather, all_to_all,
// gather), one number a rank, the parts that say "size * count" have those sizes instead and lie
// one after another; `count` is then this rank's own part.
struct CollectiveCall {
  Collective kind = Collective::kBarrier;
  const void* in = nullptr;
  void* out = nullptr;
  size_t count = 0;
  DType dtype = DType::kUInt8;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
  std::vector<size_t> in_counts = {};
  std::vector<size_t> out_counts = {};
  // Where in the program the call was made; messages name it.
  std::source_location site = std::source_location::current();
};

template <typename T>
concept CollectiveElement =
    std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, int8_t> ||
    std::is_same_v<T, uint8_t> || std::is_same_v<T, int32_t> || std::is_same_v<T, int64_t> ||
    std::is_same_v<T, bool> || std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>;

template <CollectiveElement T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::kFloat32;
  if constexpr (std::is_same_v<T, double>) return DType::kFloat64;
  if constexpr (std::is_same_v<T, int8_t>) return DType::kInt8;
  if constexpr (std::is_same_v<T, int32_t>) return DType::kInt32;
  if constexpr (std::is_same_v<T, int64_t>) return DType::kInt64;
  if constexpr (std::is_same_v<T, bool>) return DType::kBool;
  if constexpr (std::is_same_v<T, BFloat16>) return DType::kBFloat16;
  if constexpr (std::is_same_v<T, Float16>) return DType::kFloat16;
  return DType::kUInt8;
}

}  // namespace deepseek_train::collectives
