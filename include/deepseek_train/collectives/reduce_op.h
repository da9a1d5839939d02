// How the values of all ranks become one.
#pragma once

#include <cstdint>
#include <string_view>

namespace deepseek_train::collectives {

// kSum wraps on integer overflow. kMin and kMax give NaN if any rank holds NaN. kAvg is the sum
// divided once by the number of ranks (integers: truncated toward zero). bf16 and fp16 are computed
// in fp32 and rounded once.
enum class ReduceOp : uint8_t { kSum, kMin, kMax, kAvg };

// "sum", "min", "max", "avg".
std::string_view name_of(ReduceOp op);

}  // namespace deepseek_train::collectives
