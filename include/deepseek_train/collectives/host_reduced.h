// All-reduce of GPU memory through the host, for GPUs without NVLink between them.
#pragma once

#include <cstddef>
#include <memory>
#include <source_location>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::collectives {

struct HostReducedOptions {
  int device = 0;          // of CUDA's numbering
  void* stream = nullptr;  // cudaStream_t of the caller; null is CUDA's default stream
  // What is copied at a time. Four such pieces are kept pinned.
  size_t chunk_bytes = size_t{4} << 20;
};

// Every GPU copies its data to pinned memory of the host, the processors add them up, every GPU
// copies the sum back: the bytes cross PCIe once in each direction, where a ring of GPUs sends
// 2(n-1)/n of them through the host twice. After HFReduce (Fire-Flyer AI-HPC, arXiv 2408.14158).
//
// The pinned memory comes from the communicator's allocate_shared, so on one host the sum is made
// in place in the arena. A chunk is copied from the GPU while the one before it is reduced and the
// one before that is copied back. The order of sums, and so the bits, are those of the
// communicator.
class HostReducedAllReduce {
 public:
  virtual ~HostReducedAllReduce() = default;

  // In place, on `count` elements of memory of the device, after all that the caller's stream
  // holds; returns when the result lies on the device. Collective; one thread. Errors are those of
  // the communicator's all_reduce; one of this GPU ends the communicator's group too.
  virtual void all_reduce(void* device_data, size_t count, DType dtype,
                          ReduceOp op = ReduceOp::kSum,
                          std::source_location site = std::source_location::current()) = 0;
};

// Collective. Borrows the communicator, which is of the native backend (or another for host
// memory). Throws InvalidArgument in a build without DST_WITH_NCCL, Unavailable without a CUDA
// runtime, driver or device. NCCL itself is not needed.
std::unique_ptr<HostReducedAllReduce> make_host_reduced_all_reduce(
    Communicator& communicator, const HostReducedOptions& options = {});

}  // namespace deepseek_train::collectives
