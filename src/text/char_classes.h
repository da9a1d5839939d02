// What kind of character a code point is, in one table look-up: for scanners that look at every
// character of a text.
#pragma once

#include <array>
#include <cstdint>

namespace deepseek_train::text {

enum CharClass : uint8_t {
  kLetter = 1,       // \p{L}
  kMark = 2,         // \p{M}
  kNumber = 4,       // \p{N}
  kPunctuation = 8,  // \p{P}
  kSymbol = 16,      // \p{S}
  kSpace = 32,       // White_Space
  kLineEnd = 64,     // \r and \n, which are kSpace too
};

// Immutable and thread-safe; Unicode as utf8proc has it.
class CharClasses {
 public:
  // Built at the first call: half a millisecond.
  static const CharClasses& get();

  uint8_t of(char32_t code_point) const {
    return code_point < basic_.size() ? basic_[code_point] : of_rare(code_point);
  }

 private:
  CharClasses();
  static uint8_t of_rare(char32_t code_point);

  std::array<uint8_t, 0x10000> basic_;
};

}  // namespace deepseek_train::text
