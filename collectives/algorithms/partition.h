// Which part of a buffer belongs to which rank.
#pragma once

#include <algorithm>
#include <cstddef>

namespace deepseek_train::collectives {

// A range of elements, [begin, end).
struct Slice {
  size_t begin = 0;
  size_t end = 0;
  size_t size() const { return end - begin; }
};

// The part of `count` elements that `rank` of `num_ranks` owns: equal shares in whole cache lines,
// so that two owners never write to one line; the last shares may be smaller or empty.
inline Slice slice_of(size_t count, size_t element_bytes, int rank, int num_ranks) {
  const size_t quantum = 64 / element_bytes;
  const size_t num_quanta = (count + quantum - 1) / quantum;
  const size_t share = (num_quanta + num_ranks - 1) / num_ranks * quantum;
  const size_t begin = std::min(count, share * rank);
  return {begin, std::min(count, begin + share)};
}

}  // namespace deepseek_train::collectives
