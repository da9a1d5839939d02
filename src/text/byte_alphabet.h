// GPT-2's alphabet: a printable character for each of the 256 bytes, so that any bytes can be
// spelled as text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace deepseek_train::text {

// The character of a byte, as UTF-8: 'a' stays "a", a space is "Ġ".
std::string byte_char(unsigned char byte);

// The bytes that a token of this alphabet spells; nothing if one of its characters is not in the
// alphabet.
std::optional<std::string> bytes_of_token(std::string_view token);

}  // namespace deepseek_train::text
