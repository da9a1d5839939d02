// Methods of strings and mappings: Python's, as far as chat templates call them.
#pragma once

#include <optional>
#include <string_view>

#include "src/text/jinja/value.h"

namespace deepseek_train::text::jinja {

// The method bound to its value; none if `value` has no such method that is supported.
std::optional<Function> find_method(const Value& value, std::string_view name);
// Whether Python has this attribute where find_method() does not.
bool is_python_attribute(const Value& value, std::string_view name);

// str.strip(), lstrip(), rstrip(): characters of `characters`, or white space.
enum class StripSides { kBoth, kLeft, kRight };
MarkedText strip(const MarkedText& text, StripSides sides, const Value& characters, int line);
// str.replace()
MarkedText replace(const MarkedText& text, std::string_view from, const MarkedText& to,
                   int64_t count, int line);
enum class LetterCase { kUpper, kLower, kCapitalized, kTitle };
// ASCII only: fails for other letters.
MarkedText with_case(const MarkedText& text, LetterCase letter_case, int line);

}  // namespace deepseek_train::text::jinja
