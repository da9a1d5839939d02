#include "src/text/byte_alphabet.h"

#include <array>

#include "src/text/unicode.h"

namespace deepseek_train::text {
namespace {

// Bytes that are printable in Latin-1 stand for themselves.
constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

// The others are numbered from U+0100 on, in order.
constexpr std::array<char32_t, 256> kCharOfByte = [] {
  std::array<char32_t, 256> chars{};
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) chars[byte] = stands_for_itself(byte) ? byte : next++;
  return chars;
}();

constexpr char32_t kNumChars = 0x100 + 68;  // 68 bytes do not stand for themselves

constexpr std::array<int16_t, kNumChars> kByteOfChar = [] {
  std::array<int16_t, kNumChars> bytes{};
  for (auto& byte : bytes) byte = -1;
  for (unsigned byte = 0; byte < 256; ++byte) bytes[kCharOfByte[byte]] = static_cast<int16_t>(byte);
  return bytes;
}();

}  // namespace

std::string byte_char(unsigned char byte) {
  std::string text;
  append_utf8(kCharOfByte[byte], text);
  return text;
}

std::optional<std::string> bytes_of_token(std::string_view token) {
  std::string bytes;
  while (!token.empty()) {
    auto [code_point, length] = decode_utf8(token);
    if (length == 0 || code_point >= kNumChars || kByteOfChar[code_point] < 0) return std::nullopt;
    bytes += static_cast<char>(kByteOfChar[code_point]);
    token.remove_prefix(length);
  }
  return bytes;
}

}  // namespace deepseek_train::text
