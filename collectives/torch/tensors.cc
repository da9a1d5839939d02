#include "deepseek_train/collectives/torch/tensors.h"

#include <ATen/ops/from_blob.h>

#include <string_view>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/torch/dtype.h"

namespace deepseek_train::collectives {
namespace {

constexpr size_t kCacheLine = 64;

void check_device(const Communicator& communicator, const char* what, at::Device device) {
  const bool wants_gpu = communicator.transport() == "nccl";
  DST_CHECK(device.is_cuda() == wants_gpu && (device.is_cuda() || device.is_cpu()), what,
            ": the tensor is on ", device.str(), ", a communicator over ", communicator.transport(),
            " works on ", wants_gpu ? "cuda" : "cpu", "; move it with to()");
}

void check_tensor(const Communicator& communicator, const char* what, const at::Tensor& tensor) {
  DST_CHECK(tensor.defined(), what, ": the tensor is undefined");
  DST_CHECK(tensor.layout() == at::kStrided && tensor.is_contiguous(), what,
            ": the tensor is not contiguous; use contiguous()");
  check_device(communicator, what, tensor.device());
}

void check_pair(const Communicator& communicator, const char* what, const at::Tensor& in,
                const at::Tensor& out) {
  check_tensor(communicator, what, in);
  check_tensor(communicator, what, out);
  DST_CHECK(in.scalar_type() == out.scalar_type(), what, ": `in` is ",
            c10::toString(in.scalar_type()), ", `out` ", c10::toString(out.scalar_type()),
            "; both must have one type");
}

// all = size times part.
void check_counts(const Communicator& communicator, const char* what, int64_t all, int64_t part) {
  DST_CHECK(all == part * communicator.size(), what, ": one tensor has ", all,
            " elements, the other ", part, "; with ", communicator.size(),
            " ranks the first must have ", communicator.size(), " times as many");
}

// Elements of each rank's rows, which together must be the tensor.
std::vector<size_t> element_counts(const Communicator& communicator, const at::Tensor& tensor,
                                   const std::vector<int64_t>& rows) {
  DST_CHECK(tensor.dim() > 0 && static_cast<int>(rows.size()) == communicator.size(),
            "all_to_all: rows for ", rows.size(), " ranks of a tensor with ", tensor.dim(),
            " dimensions; there are ", communicator.size(), " ranks");
  int64_t total = 0;
  for (int64_t count : rows) {
    DST_CHECK(count >= 0, "all_to_all: a part has ", count, " rows");
    total += count;
  }
  DST_CHECK(total == tensor.size(0), "all_to_all: the parts have ", total,
            " rows together, the tensor ", tensor.size(0));
  const auto row = tensor.size(0) == 0 ? 0 : tensor.numel() / tensor.size(0);
  std::vector<size_t> counts;
  for (int64_t count : rows) counts.push_back(static_cast<size_t>(count * row));
  return counts;
}

CollectiveCall call_on(Collective kind, const at::Tensor& in, const at::Tensor& out, int64_t count,
                       std::source_location site) {
  return {.kind = kind, .in = in.const_data_ptr(), .out = out.data_ptr(),
          .count = static_cast<size_t>(count),
          .dtype = deepseek_train::dtype_of(in.scalar_type()), .site = site};
}

// So that autograd refuses to use a value that it saved before.
void mark_changed(const at::Tensor& tensor) {
  if (!tensor.is_inference()) tensor.unsafeGetTensorImpl()->bump_version();
}

void run(Communicator& communicator, const CollectiveCall& call, const at::Tensor& changed) {
  communicator.run(call);
  mark_changed(changed);
}

class TensorWork : public Work {
 public:
  TensorWork(std::shared_ptr<Work> work, at::Tensor tensor)
      : tensor_(std::move(tensor)), work_(std::move(work)) {}
  bool is_completed() override { return work_->is_completed(); }
  void wait() override { work_->wait(); }

 private:
  at::Tensor tensor_;
  std::shared_ptr<Work> work_;
};

}  // namespace

void all_reduce(Communicator& communicator, const at::Tensor& data, ReduceOp op,
                std::source_location site) {
  check_tensor(communicator, "all_reduce", data);
  auto call = call_on(Collective::kAllReduce, data, data, data.numel(), site);
  call.op = op;
  run(communicator, call, data);
}

void reduce_scatter(Communicator& communicator, const at::Tensor& in, const at::Tensor& out,
                    ReduceOp op, std::source_location site) {
  check_pair(communicator, "reduce_scatter", in, out);
  check_counts(communicator, "reduce_scatter", in.numel(), out.numel());
  auto call = call_on(Collective::kReduceScatter, in, out, out.numel(), site);
  call.op = op;
  run(communicator, call, out);
}

void all_gather(Communicator& communicator, const at::Tensor& in, const at::Tensor& out,
                std::source_location site) {
  check_pair(communicator, "all_gather", in, out);
  check_counts(communicator, "all_gather", out.numel(), in.numel());
  run(communicator, call_on(Collective::kAllGather, in, out, in.numel(), site), out);
}

void all_to_all(Communicator& communicator, const at::Tensor& in, const at::Tensor& out,
                std::source_location site) {
  check_pair(communicator, "all_to_all", in, out);
  const int64_t part = in.numel() / communicator.size();
  check_counts(communicator, "all_to_all", in.numel(), part);
  check_counts(communicator, "all_to_all", out.numel(), part);
  run(communicator, call_on(Collective::kAllToAll, in, out, part, site), out);
}

void all_to_all(Communicator& communicator, const at::Tensor& in,
                const std::vector<int64_t>& in_rows, const at::Tensor& out,
                const std::vector<int64_t>& out_rows, std::source_location site) {
  check_pair(communicator, "all_to_all", in, out);
  auto call = call_on(Collective::kAllToAll, in, out, 0, site);
  call.in_counts = element_counts(communicator, in, in_rows);
  call.out_counts = element_counts(communicator, out, out_rows);
  call.count = call.in_counts[static_cast<size_t>(communicator.rank())];
  run(communicator, call, out);
}

void broadcast(Communicator& communicator, const at::Tensor& data, int root,
               std::source_location site) {
  check_tensor(communicator, "broadcast", data);
  auto call = call_on(Collective::kBroadcast, data, data, data.numel(), site);
  call.root = root;
  run(communicator, call, data);
}

std::shared_ptr<Work> all_reduce_async(Communicator& communicator, const at::Tensor& data,
                                       ReduceOp op, std::source_location site) {
  check_tensor(communicator, "all_reduce", data);
  auto call = call_on(Collective::kAllReduce, data, data, data.numel(), site);
  call.op = op;
  auto work = communicator.start(std::move(call));
  mark_changed(data);
  return std::make_shared<TensorWork>(std::move(work), data);
}

SharedTensorArena::SharedTensorArena(Communicator& communicator, size_t bytes, at::Device device)
    : device_(device) {
  check_device(communicator, "SharedTensorArena", device);
  memory_ = communicator.allocate_shared(bytes);
}

size_t SharedTensorArena::padded_bytes(int64_t count, at::ScalarType type) {
  const size_t bytes = static_cast<size_t>(count) * c10::elementSize(type);
  return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}

at::Tensor SharedTensorArena::allocate(at::IntArrayRef sizes, at::ScalarType type) {
  const size_t bytes = padded_bytes(c10::multiply_integers(sizes), type);
  DST_CHECK(bytes <= bytes_left(), "SharedTensorArena: wanted ", bytes, " bytes, ", bytes_left(),
            " of ", memory_->size_bytes(), " are left; make it larger");
  auto* data = static_cast<std::byte*>(memory_->data()) + used_;
  used_ += bytes;
  return at::from_blob(
      data, sizes, [memory = memory_](void*) {}, at::TensorOptions().dtype(type).device(device_),
      device_);
}

}  // namespace deepseek_train::collectives
