// The little Unicode that tokenizers need. Character classes come from utf8proc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace deepseek_train::text {

struct DecodedChar {
  char32_t code_point = 0;
  size_t length = 0;  // in bytes; 0 if no valid UTF-8 begins here
};

// The character at the front of `text`. Surrogates, overlong forms and numbers past U+10FFFF are
// not valid.
DecodedChar decode_utf8(std::string_view text);
void append_utf8(char32_t code_point, std::string& text);

// Text cut into the longest runs that are all valid UTF-8 or all not.
struct Utf8Run {
  std::string_view text;
  bool valid = true;
};
std::vector<Utf8Run> split_utf8_runs(std::string_view text);

// General categories Nd, Nl, No.
bool is_numeral(char32_t code_point);
// The property White_Space.
bool is_white_space(char32_t code_point);
// A letter, mark, digit, letter number or connector: what a regular expression's \w means in
// Unicode.
bool is_word_char(char32_t code_point);

// Whether the text is in form C by characters that nothing can change: true for most of what is
// written, found without making it anew.
bool is_nfc_inert(std::string_view text);
// Normalization form C, of Unicode 9 as in Hugging Face's library. `text` must be valid UTF-8.
std::string to_nfc(std::string_view text);

}  // namespace deepseek_train::text
