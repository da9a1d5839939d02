#include "collectives/transport/shm/mapping.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {

Mapping::Mapping(int fd, size_t bytes, const char* what) : size_(bytes) {
  if (bytes == 0) return;
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  DST_CHECK_AS(Unavailable, address != MAP_FAILED, "cannot map ", bytes, " bytes of ", what, ": ",
               std::strerror(errno));
  data_ = static_cast<std::byte*>(address);
}

Mapping Mapping::borrow(std::byte* data, size_t bytes) {
  Mapping mapping;
  mapping.data_ = data;
  mapping.size_ = bytes;
  mapping.is_borrowed_ = true;
  return mapping;
}

Mapping::~Mapping() {
  if (data_ && !is_borrowed_) ::munmap(data_, size_);
}

}  // namespace deepseek_train::collectives
