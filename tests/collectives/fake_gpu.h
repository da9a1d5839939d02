// A model of the CUDA runtime and of NCCL on host memory: streams are threads, NCCL's ranks are
// threads that meet. Lets the NCCL backend run with several ranks, and with faults, on a machine
// without a GPU.
#pragma once

#include <atomic>

#include "collectives/backends/nccl/gpu_owners.h"

namespace deepseek_train::collectives::testing {

struct FakeGpuState {
  std::atomic<int> num_comms = 0;      // not yet destroyed or aborted
  std::atomic<int> num_finalized = 0;  // destroyed in good order
  std::atomic<int> num_aborted = 0;
  std::atomic<int> num_registered = 0;  // buffers
  // What ncclCommGetAsyncError reports, once, for any group.
  std::atomic<ncclResult_t> next_async_error = ncclSuccess;
};

// One for all, as a machine has one driver.
FakeGpuState& fake_gpu_state();
// `has_revoke`: whether the library knows ncclCommRevoke.
GpuApiPointer fake_gpu_api(bool has_revoke = true);

}  // namespace deepseek_train::collectives::testing
