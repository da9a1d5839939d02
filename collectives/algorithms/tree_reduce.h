// The reproducible reduction: one balanced binary tree over rank numbers.
#pragma once

#include <cstddef>
#include <span>

#include "deepseek_train/collectives/reduce_op.h"
#include "deepseek_train/core/dtype.h"

namespace deepseek_train::collectives {

// destinations[d][i] = op over sources[0][i], sources[1][i], ... for every d and every i < count.
//
// Order: neighbours first, level by level, an odd one out moving up unchanged: n = 7 is
// ((0+1)+(2+3)) + ((4+5)+6). Aligned power-of-two blocks of sources are sub-trees, so partial
// results of such blocks combine to the same bits. bf16 and fp16 are summed in fp32 and rounded
// once; kAvg divides by the number of sources before the rounding.
//
// A destination may be one of the sources, or overlap nothing. Pointers need the alignment of their
// element only.
void tree_reduce(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                 std::span<std::byte* const> destinations, size_t count);

// target[i] = incoming[i] op target[i], rounded to the element type. kAvg adds. One hop of a ring.
void accumulate(DType dtype, ReduceOp op, const std::byte* incoming, std::byte* target,
                size_t count);

// data[i] /= divisor, rounded to the element type; integers truncate toward zero.
void divide(DType dtype, std::byte* data, size_t count, int divisor);

}  // namespace deepseek_train::collectives
