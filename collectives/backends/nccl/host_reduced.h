// The test's way in.
#pragma once

#include "collectives/backends/nccl/gpu_owners.h"
#include "deepseek_train/collectives/host_reduced.h"

namespace deepseek_train::collectives {

std::unique_ptr<HostReducedAllReduce> make_host_reduced_all_reduce(
    GpuApiPointer api, Communicator& communicator, const HostReducedOptions& options);

}  // namespace deepseek_train::collectives
