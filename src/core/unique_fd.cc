#include "deepseek_train/core/unique_fd.h"

#include <unistd.h>

namespace deepseek_train {

void UniqueFd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

}  // namespace deepseek_train
