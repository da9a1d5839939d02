// The one owner of a memory mapping.
#pragma once

#include <cstddef>
#include <utility>

namespace deepseek_train::collectives {

// Move-only; unmaps on destruction, unless the memory is borrowed.
class Mapping {
 public:
  Mapping() = default;
  // Memory that somebody else owns and that outlives this object.
  static Mapping borrow(std::byte* data, size_t bytes);
  // Maps `bytes` of the file, shared and writable. Throws Unavailable naming `what`.
  Mapping(int fd, size_t bytes, const char* what);
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        is_borrowed_(other.is_borrowed_) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(is_borrowed_, other.is_borrowed_);
    return *this;
  }
  ~Mapping();

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  bool contains(const void* address) const {
    const auto* byte = static_cast<const std::byte*>(address);
    return byte >= data_ && byte < data_ + size_;
  }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  bool is_borrowed_ = false;
};

}  // namespace deepseek_train::collectives
