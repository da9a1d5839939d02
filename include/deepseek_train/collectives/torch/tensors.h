// Collectives on libtorch's tensors, and tensors that live in the ranks' shared memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <source_location>
#include <vector>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::collectives {

// As Communicator's functions of the same name, in place or into `out`, without a copy. Tensors must
// be defined, contiguous, of a type the collectives know, and lie where the communicator works: on
// the GPU for "nccl", on the CPU else; `in` and `out` have one type. Only the number of elements
// counts, not the shape; leading dimensions are what is cut among ranks. Throw InvalidArgument naming
// what was found. Autograd does not see them, but notices that a tensor it had saved was changed.
void all_reduce(Communicator& communicator, const at::Tensor& data, ReduceOp op = ReduceOp::kSum,
                std::source_location site = std::source_location::current());
// in: [size * n, ...], out: [n, ...].
void reduce_scatter(Communicator& communicator, const at::Tensor& in, const at::Tensor& out,
                    ReduceOp op = ReduceOp::kSum,
                    std::source_location site = std::source_location::current());
// in: [n, ...], out: [size * n, ...].
void all_gather(Communicator& communicator, const at::Tensor& in, const at::Tensor& out,
                std::source_location site = std::source_location::current());
// Both [size * n, ...].
void all_to_all(Communicator& communicator, const at::Tensor& in, const at::Tensor& out,
                std::source_location site = std::source_location::current());
// Parts of different sizes: in_rows[r] leading rows of `in`, one part after another, go to rank r,
// out_rows[s] of `out` come from rank s; other dimensions are equal. Any part may be empty.
void all_to_all(Communicator& communicator, const at::Tensor& in,
                const std::vector<int64_t>& in_rows, const at::Tensor& out,
                const std::vector<int64_t>& out_rows,
                std::source_location site = std::source_location::current());
void broadcast(Communicator& communicator, const at::Tensor& data, int root = 0,
               std::source_location site = std::source_location::current());

// In the background; the handle keeps the tensor's memory.
std::shared_ptr<Work> all_reduce_async(
    Communicator& communicator, const at::Tensor& data, ReduceOp op = ReduceOp::kSum,
    std::source_location site = std::source_location::current());

// Hands out tensors from memory of Communicator::allocate_shared, one after another, each on a cache
// line of its own. all_reduce of such a tensor, or of a contiguous part of it, copies nothing on one
// host, as long as all ranks allocate the same sizes in the same order. Memory is given back when
// the arena and all its tensors are gone; they may outlive the communicator. One thread.
class SharedTensorArena {
 public:
  // Collective, the same size on all ranks. `device`: where the communicator's memory lies.
  SharedTensorArena(Communicator& communicator, size_t bytes, at::Device device = at::kCPU);

  // Zeroed, contiguous. Throws InvalidArgument, naming what is left, if it does not fit.
  at::Tensor allocate(at::IntArrayRef sizes, at::ScalarType type = at::kFloat);

  // What allocate() takes from the arena for so many elements.
  static size_t padded_bytes(int64_t count, at::ScalarType type = at::kFloat);
  size_t bytes_left() const { return memory_->size_bytes() - used_; }
  // Whether the other ranks reach this very memory.
  bool is_mapped_by_peers() const { return memory_->is_mapped_by_peers(); }

 private:
  std::shared_ptr<SharedBuffer> memory_;
  at::Device device_;
  size_t used_ = 0;
};

}  // namespace deepseek_train::collectives
