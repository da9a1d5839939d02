#include "collectives/describe.h"

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {

std::string_view name_of(Collective kind) {
  switch (kind) {
    case Collective::kAllReduce: return "all_reduce";
    case Collective::kReduceScatter: return "reduce_scatter";
    case Collective::kAllGather: return "all_gather";
    case Collective::kBroadcast: return "broadcast";
    case Collective::kBarrier: return "barrier";
    case Collective::kAllToAll: return "all_to_all";
    case Collective::kGather: return "gather";
    case Collective::kScatter: return "scatter";
  }
  throw Internal(concat("unknown collective ", static_cast<int>(kind)));
}

std::string_view name_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum: return "sum";
    case ReduceOp::kMin: return "min";
    case ReduceOp::kMax: return "max";
    case ReduceOp::kAvg: return "avg";
    case ReduceOp::kProd: return "prod";
    case ReduceOp::kAnd: return "and";
    case ReduceOp::kOr: return "or";
  }
  throw Internal(concat("unknown ReduceOp ", static_cast<int>(op)));
}

bool is_reducible(DType dtype, ReduceOp op) {
  const bool is_bitwise = op == ReduceOp::kAnd || op == ReduceOp::kOr;
  switch (dtype) {
    case DType::kFloat32:
    case DType::kFloat64:
    case DType::kBFloat16:
    case DType::kFloat16: return !is_bitwise;
    case DType::kInt64:
    case DType::kInt32:
    case DType::kInt8:
    case DType::kUInt8: return true;
    case DType::kBool: return is_bitwise || op == ReduceOp::kMin || op == ReduceOp::kMax;
    case DType::kFloat8E4M3:
    case DType::kFloat8E5M2:
    case DType::kFloat8E8M0: return false;
  }
  return false;
}

}  // namespace deepseek_train::collectives
