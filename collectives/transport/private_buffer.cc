#include "collectives/transport/private_buffer.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

class PrivateBuffer : public SharedBuffer {
 public:
  explicit PrivateBuffer(size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    void* address =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    DST_CHECK_AS(Unavailable, address != MAP_FAILED, "cannot allocate ", bytes,
                 " bytes: ", std::strerror(errno));
    data_ = address;
  }
  ~PrivateBuffer() override {
    if (data_) ::munmap(data_, bytes_);
  }
  void* data() const override { return data_; }
  size_t size_bytes() const override { return bytes_; }
  bool is_mapped_by_peers() const override { return false; }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

}  // namespace

std::unique_ptr<SharedBuffer> make_private_buffer(size_t bytes) {
  return std::make_unique<PrivateBuffer>(bytes);
}

}  // namespace deepseek_train::collectives
