#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "src/formats/stream_copy.h"

namespace deepseek_train::formats {
namespace {

constexpr size_t kLine = 64;
// Below this the caches take the copy, and the reader finds it there.
constexpr size_t kWorthStreaming = 256 << 10;

}  // namespace

// SSE2, which every x86-64 has: four stores fill a line, and the memory is the limit anyway.
void stream_copy(std::byte* to, std::span<const std::byte> from) {
  if (from.size() < kWorthStreaming) {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
    return;
  }
  const size_t before = (kLine - reinterpret_cast<uintptr_t>(to) % kLine) % kLine;
  std::memcpy(to, from.data(), before);
  to += before;
  from = from.subspan(before);
  for (; from.size() >= kLine; to += kLine, from = from.subspan(kLine)) {
    const auto* source = reinterpret_cast<const __m128i*>(from.data());
    auto* line = reinterpret_cast<__m128i*>(to);
    const __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(line, a);
    _mm_stream_si128(line + 1, b);
    _mm_stream_si128(line + 2, c);
    _mm_stream_si128(line + 3, d);
  }
  _mm_sfence();  // before another thread is told that the copy is done
  std::memcpy(to, from.data(), from.size());
}

}  // namespace deepseek_train::formats
