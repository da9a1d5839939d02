#include <cstring>

#include "src/formats/stream_copy.h"

namespace deepseek_train::formats {

void stream_copy(std::byte* to, std::span<const std::byte> from) {
  if (!from.empty()) std::memcpy(to, from.data(), from.size());
}

}  // namespace deepseek_train::formats
