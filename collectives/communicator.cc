#include "deepseek_train/collectives/communicator.h"

#include "collectives/describe.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

bool is_reduction(Collective kind) {
  return kind == Collective::kAllReduce || kind == Collective::kReduceScatter;
}

bool is_reducible(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kFloat64:
    case DType::kBFloat16:
    case DType::kFloat16:
    case DType::kInt32:
    case DType::kInt64: return true;
    default: return false;
  }
}

}  // namespace

std::shared_ptr<Work> Communicator::all_reduce_async(void* data, size_t count, DType dtype,
                                                     ReduceOp op) {
  return start_checked({Collective::kAllReduce, data, data, count, dtype, op, 0});
}

std::shared_ptr<Work> Communicator::reduce_scatter_async(const void* in, void* out,
                                                         size_t count_per_rank, DType dtype,
                                                         ReduceOp op) {
  return start_checked({Collective::kReduceScatter, in, out, count_per_rank, dtype, op, 0});
}

std::shared_ptr<Work> Communicator::all_gather_async(const void* in, void* out,
                                                     size_t count_per_rank, DType dtype) {
  return start_checked({Collective::kAllGather, in, out, count_per_rank, dtype, ReduceOp::kSum, 0});
}

std::shared_ptr<Work> Communicator::broadcast_async(void* data, size_t count, DType dtype,
                                                    int root) {
  return start_checked({Collective::kBroadcast, data, data, count, dtype, ReduceOp::kSum, root});
}

std::shared_ptr<Work> Communicator::barrier_async() { return start_checked({}); }

void Communicator::run_checked(const CollectiveCall& call) {
  check(call);
  run(call);
}

std::shared_ptr<Work> Communicator::start_checked(const CollectiveCall& call) {
  check(call);
  return start(call);
}

void Communicator::check(const CollectiveCall& call) const {
  const auto name = name_of(call.kind);
  DST_CHECK(call.count == 0 || (call.in && call.out), name, " of ", call.count,
            " elements got a null pointer");
  DST_CHECK(call.root >= 0 && call.root < size(), name, ": root ", call.root,
            " is not a rank; there are ranks 0 to ", size() - 1);
  DST_CHECK(call.count <= (SIZE_MAX >> 1) / size_bytes(call.dtype) / size(), name, " of ",
            call.count, " ", name_of(call.dtype), " on ", size(),
            " ranks is more bytes than an address can count");
  DST_CHECK(!is_reduction(call.kind) || is_reducible(call.dtype), name, " cannot reduce ",
            name_of(call.dtype), "; wanted float32, float64, bf16, fp16, int32 or int64");
}

void Communicator::check_sizes(const char* what, size_t all, size_t per_rank) const {
  DST_CHECK(per_rank <= SIZE_MAX / size() && all == per_rank * size(), what, ": one span holds ",
            all, " elements, the other ", per_rank, "; with ", size(), " ranks the first must be ",
            size(), " times the second");
}

}  // namespace deepseek_train::collectives
