#include "collectives/backends/nccl/nccl_types.h"

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return ncclFloat32;
    case DType::kFloat64: return ncclFloat64;
    case DType::kBFloat16: return ncclBfloat16;
    case DType::kFloat16: return ncclFloat16;
    case DType::kInt64: return ncclInt64;
    case DType::kInt32: return ncclInt32;
    case DType::kInt8: return ncclInt8;
    case DType::kUInt8:
    case DType::kBool:
    case DType::kFloat8E4M3:
    case DType::kFloat8E5M2:
    case DType::kFloat8E8M0: return ncclUint8;
  }
  throw Internal(concat("unknown DType ", static_cast<int>(dtype)));
}

ncclRedOp_t nccl_operation(DType dtype, ReduceOp op) {
  const bool is_bool = dtype == DType::kBool;
  // The sum of many 8-bit numbers wraps before NCCL divides it.
  const bool is_narrow = size_bytes(dtype) == 1;
  switch (op) {
    case ReduceOp::kSum: return ncclSum;
    case ReduceOp::kProd: return ncclProd;
    case ReduceOp::kMin: return ncclMin;
    case ReduceOp::kMax: return ncclMax;
    case ReduceOp::kAvg:
      if (!is_narrow) return ncclAvg;
      break;
    case ReduceOp::kAnd:
      if (is_bool) return ncclMin;
      break;
    case ReduceOp::kOr:
      if (is_bool) return ncclMax;
      break;
  }
  throw InvalidArgument(concat("NCCL cannot take ", name_of(op), " of ", name_of(dtype),
                               "; copy the data to the host and use the native backend"));
}

}  // namespace deepseek_train::collectives
