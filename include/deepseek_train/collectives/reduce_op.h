// How the values of all ranks become one.
#pragma once

#include <cstdint>
#include <string_view>

#include "deepseek_train/core/dtype.h"

namespace deepseek_train::collectives {

// kSum and kProd wrap on integer overflow. kMin and kMax give NaN if any rank holds NaN. kAvg is
// the sum divided once by the number of ranks (integers: truncated toward zero). kAnd and kOr work
// bit by bit, on integers and bool only. bf16 and fp16 are computed in fp32 and rounded once.
// Bool takes kMin, kMax, kAnd and kOr. 8-bit floats travel but are not reduced.
enum class ReduceOp : uint8_t { kSum, kMin, kMax, kAvg, kProd, kAnd, kOr };

// "sum", "min", "max", "avg", "prod", "and", "or".
std::string_view name_of(ReduceOp op);

// Whether values of this type can be reduced so.
bool is_reducible(DType dtype, ReduceOp op);

}  // namespace deepseek_train::collectives
