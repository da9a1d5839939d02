// Our element types and operations in NCCL's terms.
#pragma once

#include <nccl.h>

#include "deepseek_train/collectives/collective_call.h"

namespace deepseek_train::collectives {

// Bool is a byte of 0 or 1; 8-bit floats are bytes, which are only moved.
ncclDataType_t nccl_type(DType dtype);

// For a type that nccl_type knows. Throws InvalidArgument, naming operation and type, if NCCL
// cannot do it.
ncclRedOp_t nccl_operation(DType dtype, ReduceOp op);

}  // namespace deepseek_train::collectives
