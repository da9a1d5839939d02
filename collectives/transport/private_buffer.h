// allocate_shared where ranks share no memory: plain pages.
#pragma once

#include <memory>

#include "deepseek_train/collectives/shared_buffer.h"

namespace deepseek_train::collectives {

// Zeroed, page-aligned. Throws Unavailable if there is no such memory.
std::unique_ptr<SharedBuffer> make_private_buffer(size_t bytes);

}  // namespace deepseek_train::collectives
