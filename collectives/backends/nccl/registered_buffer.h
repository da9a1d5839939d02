// Device memory that NCCL has registered.
#pragma once

#include <memory>

#include "collectives/backends/nccl/nccl_group.h"
#include "deepseek_train/collectives/shared_buffer.h"

namespace deepseek_train::collectives {

// Collective, all with the same size. Zeroed.
std::unique_ptr<SharedBuffer> make_registered_buffer(const std::shared_ptr<NcclGroup>& group,
                                                     size_t bytes);

}  // namespace deepseek_train::collectives
