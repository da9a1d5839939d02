// Joining values into text, for messages and names. Only the standard library, so every header may
// use it.
#pragma once

#include <concepts>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace deepseek_train {

namespace detail {
std::string number_text(double value);

inline std::string to_text(std::string_view value) { return std::string(value); }
inline std::string to_text(const char* value) { return value; }
inline std::string to_text(bool value) { return value ? "true" : "false"; }
inline std::string to_text(char value) { return std::string(1, value); }
template <std::integral T>
std::string to_text(T value) {
  return std::to_string(value);
}
inline std::string to_text(std::floating_point auto value) {
  return number_text(static_cast<double>(value));
}
template <typename T>
std::string to_text(const std::vector<T>& values) {
  std::string text = "[";
  for (size_t i = 0; i < values.size(); ++i) text += (i ? ", " : "") + to_text(values[i]);
  return text + "]";
}
}  // namespace detail

// The values one after another, numbers in their shortest exact form: concat("rank ", 3) == "rank
// 3".
template <typename... Values>
std::string concat(const Values&... values) {
  std::string text;
  ((text += detail::to_text(values)), ...);
  return text;
}

// 0.12345 with 3 digits after the point: "0.123".
std::string fixed(double value, int digits);

// The candidate closest to `word` in edit distance, for "did you mean"; empty if none is near.
std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace deepseek_train
