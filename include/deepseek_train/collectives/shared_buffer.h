// Memory that every rank of one host can reach.
#pragma once

#include <cstddef>
#include <span>

namespace deepseek_train::collectives {

// Owner of one rank's part of an arena made by Communicator::allocate_shared. The bytes start as
// zero, lie on a page boundary and live until the object is destroyed; it may outlive its
// communicator. Not copyable.
class SharedBuffer {
 public:
  SharedBuffer() = default;
  SharedBuffer(const SharedBuffer&) = delete;
  SharedBuffer& operator=(const SharedBuffer&) = delete;
  virtual ~SharedBuffer() = default;

  virtual void* data() const = 0;
  virtual size_t size_bytes() const = 0;
  // True if the other ranks read and write these very bytes, so that all_reduce copies nothing.
  virtual bool is_mapped_by_peers() const = 0;

  // The buffer as elements; a rest smaller than one element is left out.
  template <typename T>
  std::span<T> as() const {
    return {static_cast<T*>(data()), size_bytes() / sizeof(T)};
  }
};

}  // namespace deepseek_train::collectives
