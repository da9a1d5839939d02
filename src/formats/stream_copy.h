// A copy for bytes that nobody reads soon.
#pragma once

#include <cstddef>
#include <span>

namespace deepseek_train::formats {

// As memcpy, with stores past the caches where the processor has them: a third less memory traffic
// than ordinary stores, which read each line before they write it. `to` is at least as long.
void stream_copy(std::byte* to, std::span<const std::byte> from);

}  // namespace deepseek_train::formats
