#pragma once

#include <cstddef>
#include <cstring>

namespace deepseek_train::collectives {

// memmove that takes null pointers with no bytes, and does nothing in place.
inline void copy_bytes(void* to, const void* from, size_t bytes) {
  if (bytes != 0 && to != from) std::memmove(to, from, bytes);
}

}  // namespace deepseek_train::collectives
