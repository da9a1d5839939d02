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
  }
  throw Internal(concat("unknown collective ", static_cast<int>(kind)));
}

std::string_view name_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum: return "sum";
    case ReduceOp::kMin: return "min";
    case ReduceOp::kMax: return "max";
    case ReduceOp::kAvg: return "avg";
  }
  throw Internal(concat("unknown ReduceOp ", static_cast<int>(op)));
}

}  // namespace deepseek_train::collectives
