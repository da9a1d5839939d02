#include "collectives/transport/tcp/recovery.h"

#include <cstring>
#include <utility>

namespace deepseek_train::collectives {

void Recovery::keep_input(const CollectiveCall& call) {
  const size_t bytes = call.count * size_bytes(call.dtype);
  if (input_.size() < bytes) input_.resize(bytes);
  if (bytes > 0) std::memcpy(input_.data(), call.in, bytes);
  call_ = call;
  progress_.has_input = true;
}

void Recovery::inherit(Recovery&& other, bool has_result) {
  *this = std::move(other);
  progress_ = {.entered = 1, .passed = 0, .has_input = true, .has_result = has_result};
}

void Recovery::restore_input() const {
  const size_t bytes = call_.count * size_bytes(call_.dtype);
  if (bytes > 0) std::memcpy(call_.out, input_.data(), bytes);
}

}  // namespace deepseek_train::collectives
