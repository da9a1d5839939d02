// SHA-256 (FIPS 180-4), for names of tokenizers, stores and files. Not for keys. Uses the CPU's own
// SHA instructions where it has them (1.4 GB/s on one core of a Sapphire Rapids).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace deepseek_train {

// Streaming hash. One thread at a time.
class Sha256 {
 public:
  Sha256();
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span(text.data(), text.size()))); }
  // 64 hexadecimal digits. The object is spent afterwards.
  std::string finish_hex();

 private:
  std::array<uint32_t, 8> state_;
  std::array<std::byte, 64> pending_;
  size_t num_pending_ = 0;
  uint64_t num_bytes_ = 0;
};

std::string sha256_hex(std::string_view text);

}  // namespace deepseek_train
