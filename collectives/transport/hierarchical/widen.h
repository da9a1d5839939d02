// Reductions whose partial results must not be rounded on the way.
#pragma once

#include <cstddef>
#include <optional>

#include "deepseek_train/collectives/reduce_op.h"
#include "deepseek_train/core/dtype.h"

namespace deepseek_train::collectives {

// The type in which partial results of a reduction travel so that the last one, narrowed, has the
// bits of one tree_reduce: float32 for sums and products of 16-bit floats, int32 for averages of
// 8-bit integers. None where the type itself will do.
std::optional<DType> wide_type_of(DType dtype, ReduceOp op);

// `count` elements from the narrow type to its wide one and back, rounding to nearest even.
void widen(DType narrow, const std::byte* from, std::byte* to, size_t count);
void narrow(DType narrow, const std::byte* from, std::byte* to, size_t count);

}  // namespace deepseek_train::collectives
