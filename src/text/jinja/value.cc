#include "src/text/jinja/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "src/text/unicode.h"

namespace deepseek_train::text::jinja {
namespace {

std::string float_text(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  char buffer[32];
  // Python switches to exponents below 1e-4 and from 1e16 on.
  const double size = std::fabs(number);
  const bool plain = size == 0 || (size >= 1e-4 && size < 1e16);
  auto result = std::to_chars(buffer, buffer + sizeof(buffer), number,
                              plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer, result.ptr);
  if (plain && text.find('.') == text.npos) text += ".0";
  return text;
}

std::string string_repr(const std::string& text) {
  const bool double_quotes = text.find('\'') != text.npos && text.find('"') == text.npos;
  const char quote = double_quotes ? '"' : '\'';
  std::string result(1, quote);
  for (char c : text) {
    if (c == '\\' || c == quote) result += '\\';
    if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else if (c == '\r') {
      result += "\\r";
    } else {
      result += c;
    }
  }
  return result + quote;
}

std::string list_repr(const List& list, int line) {
  std::string text(1, list.is_tuple ? '(' : '[');
  for (size_t i = 0; i < list.items.size(); ++i)
    text += concat(i == 0 ? "" : ", ", repr(list.items[i], line));
  if (list.is_tuple && list.items.size() == 1) text += ',';
  return text + (list.is_tuple ? ')' : ']');
}

std::string map_repr(const Map& map, int line) {
  std::string text = "{";
  for (const auto& [key, value] : map.items)
    text += concat(text.size() == 1 ? "" : ", ", string_repr(key), ": ", repr(value, line));
  return text + "}";
}

template <typename T>
int order(const T& a, const T& b) {
  return a < b ? -1 : b < a ? 1 : 0;
}

bool equal_lists(const List& a, const List& b) {
  return a.is_tuple == b.is_tuple &&
         std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), equal);
}

bool equal_maps(const Map& a, const Map& b) {
  if (a.items.size() != b.items.size()) return false;
  return std::all_of(a.items.begin(), a.items.end(), [&](const auto& item) {
    const Value* other = b.find(item.first);
    return other != nullptr && equal(item.second, *other);
  });
}

}  // namespace

const Value* Map::find(std::string_view key) const {
  for (const auto& item : items)
    if (item.first == key) return &item.second;
  return nullptr;
}

void Map::set(std::string_view key, Value value) {
  for (auto& item : items) {
    if (item.first != key) continue;
    item.second = std::move(value);
    return;
  }
  items.emplace_back(key, std::move(value));
}

Value Value::undefined(std::string name) {
  Value value;
  value.data_ = Undefined{std::move(name)};
  return value;
}

int64_t Value::integer() const {
  return is_bool() ? std::get<bool>(data_) : std::get<int64_t>(data_);
}

double Value::number() const {
  return is_float() ? std::get<double>(data_) : static_cast<double>(integer());
}

bool Value::truth() const {
  if (is_bool()) return std::get<bool>(data_);
  if (is_number()) return number() != 0;
  if (is_string()) return text().size() > 0;
  if (is_list()) return !list().items.empty();
  if (is_map()) return map().is_namespace || !map().items.empty();
  return is_function();
}

std::string_view Value::type_name() const {
  if (is_undefined()) return "undefined";
  if (is_none()) return "none";
  if (is_bool()) return "a boolean";
  if (is_int()) return "an integer";
  if (is_float()) return "a float";
  if (is_string()) return "a string";
  if (is_list()) return "a list";
  return is_map() ? "a mapping" : "a function";
}

Value Arguments::get(size_t index, std::string_view name) const {
  if (index < positional.size()) return positional[index];
  for (const auto& [key, value] : named)
    if (key == name) return value;
  return {};
}

void Arguments::expect(std::string_view what, size_t max_positional,
                       std::initializer_list<std::string_view> names) const {
  if (positional.size() > max_positional)
    fail(line, what, " got ", positional.size(), " arguments, wanted at most ", max_positional);
  for (const auto& item : named)
    if (std::find(names.begin(), names.end(), item.first) == names.end())
      fail(line, what, " has no argument \"", item.first, "\" here; it is not supported");
}

bool equal(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  if (a.is_string() && b.is_string()) return a.bytes() == b.bytes();
  if (a.is_list() && b.is_list()) return equal_lists(a.list(), b.list());
  if (a.is_map() && b.is_map()) return equal_maps(a.map(), b.map());
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

int compare(const Value& a, const Value& b, int line) {
  if (a.is_integral() && b.is_integral()) return order(a.integer(), b.integer());
  if (a.is_number() && b.is_number()) return order(a.number(), b.number());
  // UTF-8 sorts as its code points do.
  if (a.is_string() && b.is_string()) return order(a.bytes(), b.bytes());
  if (!a.is_list() || !b.is_list())
    fail(line, "cannot order ", a.type_name(), " and ", b.type_name());
  const auto &left = a.list().items, &right = b.list().items;
  for (size_t i = 0; i < std::min(left.size(), right.size()); ++i)
    if (!equal(left[i], right[i])) return compare(left[i], right[i], line);
  return order(left.size(), right.size());
}

MarkedText print(const Value& value, int line) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return {};
  return MarkedText(repr(value, line));
}

std::string repr(const Value& value, int line) {
  if (value.is_none()) return "None";
  if (value.is_bool()) return value.truth() ? "True" : "False";
  if (value.is_int()) return std::to_string(value.integer());
  if (value.is_float()) return float_text(value.number());
  if (value.is_string()) return string_repr(value.bytes());
  if (value.is_list()) return list_repr(value.list(), line);
  if (value.is_map() && !value.map().is_namespace) return map_repr(value.map(), line);
  if (value.is_undefined()) return "Undefined";
  fail(line, "cannot print ", value.is_map() ? "a namespace" : value.type_name());
}

std::vector<size_t> char_offsets(std::string_view text) {
  std::vector<size_t> offsets;
  size_t position = 0;
  while (position < text.size()) {
    offsets.push_back(position);
    position += std::max<size_t>(1, decode_utf8(text.substr(position)).length);
  }
  offsets.push_back(text.size());
  return offsets;
}

std::vector<Value> iterate(const Value& value, int line) {
  std::vector<Value> items;
  if (value.is_list()) return value.list().items;
  if (value.is_map() && !value.map().is_namespace) {
    for (const auto& item : value.map().items) items.emplace_back(item.first);
  } else if (value.is_string()) {
    auto offsets = char_offsets(value.bytes());
    for (size_t i = 0; i + 1 < offsets.size(); ++i)
      items.emplace_back(value.text().substr(offsets[i], offsets[i + 1] - offsets[i]));
  } else if (!value.is_undefined()) {
    fail(line, "cannot loop over ", value.type_name());
  }
  return items;
}

bool contains(const Value& container, const Value& item, int line) {
  if (container.is_string()) {
    if (!item.is_string())
      fail(line, "\"in\" a string wants a string on its left, found ", item.type_name());
    return container.bytes().find(item.bytes()) != std::string::npos;
  }
  if (container.is_map() && !container.map().is_namespace)
    return item.is_string() && container.map().find(item.bytes()) != nullptr;
  auto items = iterate(container, line);
  return std::any_of(items.begin(), items.end(),
                     [&](const Value& other) { return equal(other, item); });
}

int64_t length(const Value& value, int line) {
  if (value.is_string()) return static_cast<int64_t>(char_offsets(value.bytes()).size()) - 1;
  if (value.is_list()) return static_cast<int64_t>(value.list().items.size());
  if (value.is_map() && !value.map().is_namespace)
    return static_cast<int64_t>(value.map().items.size());
  if (value.is_undefined()) return 0;
  fail(line, value.type_name(), " has no length");
}

}  // namespace deepseek_train::text::jinja
