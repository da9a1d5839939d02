#include "src/text/jinja/methods.h"

#include <algorithm>
#include <array>

#include "src/text/unicode.h"

namespace deepseek_train::text::jinja {
namespace {

using Method = Value (*)(const Value& self, const Arguments& arguments);

// Python's str.isspace(): Unicode's white space and four control characters.
bool is_python_space(char32_t c) { return is_white_space(c) || (c >= 0x1c && c <= 0x1f); }

const MarkedText& string_argument(const Value& value, std::string_view what, int line) {
  if (!value.is_string()) fail(line, what, " wants a string, found ", value.type_name());
  return value.text();
}

Value strip_method(const Value& self, const Arguments& arguments, StripSides sides,
                   std::string_view name) {
  arguments.expect(name, 1);
  return strip(self.text(), sides, arguments.get(0, ""), arguments.line);
}

// Pieces between white space; `limit` splits at most, from the left.
Value split_at_space(const MarkedText& text, int64_t limit) {
  List parts;
  const std::string& bytes = text.bytes();
  size_t position = 0;
  auto skip = [&](bool space) {
    while (position < bytes.size()) {
      auto [c, length] = decode_utf8(std::string_view(bytes).substr(position));
      if (is_python_space(c) != space) break;
      position += std::max<size_t>(1, length);
    }
  };
  for (skip(true); position < bytes.size(); skip(true)) {
    const size_t begin = position;
    if (limit >= 0 && static_cast<int64_t>(parts.items.size()) == limit) {
      parts.items.emplace_back(text.substr(begin));
      break;
    }
    skip(false);
    parts.items.emplace_back(text.substr(begin, position - begin));
  }
  return parts;
}

Value split_left(const MarkedText& text, const std::string& separator, int64_t limit) {
  List parts;
  size_t begin = 0;
  while (limit < 0 || static_cast<int64_t>(parts.items.size()) < limit) {
    const size_t at = text.bytes().find(separator, begin);
    if (at == std::string::npos) break;
    parts.items.emplace_back(text.substr(begin, at - begin));
    begin = at + separator.size();
  }
  parts.items.emplace_back(text.substr(begin));
  return parts;
}

Value split_right(const MarkedText& text, const std::string& separator, int64_t limit) {
  List parts;
  size_t end = text.size();
  while (limit < 0 || static_cast<int64_t>(parts.items.size()) < limit) {
    if (end < separator.size()) break;
    const size_t at = text.bytes().rfind(separator, end - separator.size());
    if (at == std::string::npos) break;
    parts.items.emplace_back(text.substr(at + separator.size(), end - at - separator.size()));
    end = at;
  }
  parts.items.emplace_back(text.substr(0, end));
  std::reverse(parts.items.begin(), parts.items.end());
  return parts;
}

Value split_method(const Value& self, const Arguments& arguments, bool from_right) {
  arguments.expect("split()", 2, {"sep", "maxsplit"});
  const Value separator = arguments.get(0, "sep"), limit = arguments.get(1, "maxsplit");
  if (!limit.is_undefined() && !limit.is_integral())
    fail(arguments.line, "split() wants a whole number of splits, found ", limit.type_name());
  const int64_t most = limit.is_undefined() ? -1 : limit.integer();
  if (separator.is_undefined() || separator.is_none()) {
    if (from_right && most >= 0)
      fail(arguments.line, "rsplit() at white space with a limit is not supported");
    return split_at_space(self.text(), most);
  }
  const auto& text = string_argument(separator, "split()", arguments.line).bytes();
  if (text.empty()) fail(arguments.line, "split() at the empty string");
  return from_right ? split_right(self.text(), text, most) : split_left(self.text(), text, most);
}

// startswith() and endswith(), of one string or any of a tuple.
Value has_affix(const Value& self, const Arguments& arguments, bool at_begin) {
  const char* name = at_begin ? "startswith()" : "endswith()";
  arguments.expect(name, 1);
  const Value affix = arguments.get(0, "");
  auto matches = [&](const Value& one) {
    const auto& bytes = string_argument(one, name, arguments.line).bytes();
    return at_begin ? self.bytes().starts_with(bytes) : self.bytes().ends_with(bytes);
  };
  if (affix.is_list())
    return std::any_of(affix.list().items.begin(), affix.list().items.end(), matches);
  return matches(affix);
}

Value remove_affix(const Value& self, const Arguments& arguments, bool at_begin) {
  const char* name = at_begin ? "removeprefix()" : "removesuffix()";
  arguments.expect(name, 1);
  const auto& affix = string_argument(arguments.get(0, ""), name, arguments.line).bytes();
  if (affix.empty() || !has_affix(self, arguments, at_begin).truth()) return self;
  const size_t rest = self.text().size() - affix.size();
  return at_begin ? self.text().substr(affix.size()) : self.text().substr(0, rest);
}

Value find_in(const Value& self, const Arguments& arguments, bool from_right) {
  arguments.expect("find()", 1);
  const auto& part = string_argument(arguments.get(0, ""), "find()", arguments.line).bytes();
  const size_t at = from_right ? self.bytes().rfind(part) : self.bytes().find(part);
  if (at == std::string::npos) return int64_t{-1};
  return static_cast<int64_t>(char_offsets(std::string_view(self.bytes()).substr(0, at)).size()) -
         1;
}

Value count_of(const Value& self, const Arguments& arguments) {
  arguments.expect("count()", 1);
  const auto& part = string_argument(arguments.get(0, ""), "count()", arguments.line).bytes();
  if (part.empty()) fail(arguments.line, "count() of the empty string is not supported");
  int64_t count = 0;
  for (size_t at = self.bytes().find(part); at != std::string::npos;
       at = self.bytes().find(part, at + part.size()))
    ++count;
  return count;
}

Value replace_method(const Value& self, const Arguments& arguments) {
  arguments.expect("replace()", 3);
  const Value count = arguments.get(2, "");
  if (!count.is_undefined() && !count.is_integral())
    fail(arguments.line, "replace() wants a whole number, found ", count.type_name());
  return replace(self.text(),
                 string_argument(arguments.get(0, ""), "replace()", arguments.line).bytes(),
                 string_argument(arguments.get(1, ""), "replace()", arguments.line),
                 count.is_undefined() ? -1 : count.integer(), arguments.line);
}

Value join_method(const Value& self, const Arguments& arguments) {
  arguments.expect("join()", 1);
  MarkedText text;
  bool first = true;
  for (const Value& part : iterate(arguments.get(0, ""), arguments.line)) {
    if (!first) text.append(self.text());
    text.append(string_argument(part, "join()", arguments.line));
    first = false;
  }
  return text;
}

Value case_method(const Value& self, const Arguments& arguments, LetterCase letter_case) {
  arguments.expect("a method of letter case", 0);
  return with_case(self.text(), letter_case, arguments.line);
}

Value is_digits(const Value& self, const Arguments& arguments) {
  arguments.expect("isdigit()", 0);
  for (char c : self.bytes())
    if ((c & 0x80) != 0)
      fail(arguments.line, "isdigit() of text that is not ASCII is not supported");
  return !self.bytes().empty() && self.bytes().find_first_not_of("0123456789") == std::string::npos;
}

constexpr std::pair<std::string_view, Method> kStringMethods[] = {
    {"strip", [](auto& s, auto& a) { return strip_method(s, a, StripSides::kBoth, "strip()"); }},
    {"lstrip", [](auto& s, auto& a) { return strip_method(s, a, StripSides::kLeft, "lstrip()"); }},
    {"rstrip", [](auto& s, auto& a) { return strip_method(s, a, StripSides::kRight, "rstrip()"); }},
    {"split", [](auto& s, auto& a) { return split_method(s, a, false); }},
    {"rsplit", [](auto& s, auto& a) { return split_method(s, a, true); }},
    {"startswith", [](auto& s, auto& a) { return has_affix(s, a, true); }},
    {"endswith", [](auto& s, auto& a) { return has_affix(s, a, false); }},
    {"removeprefix", [](auto& s, auto& a) { return remove_affix(s, a, true); }},
    {"removesuffix", [](auto& s, auto& a) { return remove_affix(s, a, false); }},
    {"find", [](auto& s, auto& a) { return find_in(s, a, false); }},
    {"rfind", [](auto& s, auto& a) { return find_in(s, a, true); }},
    {"count", count_of},
    {"replace", replace_method},
    {"join", join_method},
    {"isdigit", is_digits},
    {"upper", [](auto& s, auto& a) { return case_method(s, a, LetterCase::kUpper); }},
    {"lower", [](auto& s, auto& a) { return case_method(s, a, LetterCase::kLower); }},
    {"capitalize", [](auto& s, auto& a) { return case_method(s, a, LetterCase::kCapitalized); }},
    {"title", [](auto& s, auto& a) { return case_method(s, a, LetterCase::kTitle); }},
};

Value map_items(const Value& self, const Arguments& arguments) {
  arguments.expect("items()", 0);
  List items;
  for (const auto& [key, value] : self.map().items)
    items.items.emplace_back(List{{Value(key), value}, true});
  return items;
}

Value map_keys(const Value& self, const Arguments& arguments) {
  arguments.expect("keys()", 0);
  return List{iterate(self, arguments.line)};
}

Value map_values(const Value& self, const Arguments& arguments) {
  arguments.expect("values()", 0);
  List values;
  for (const auto& item : self.map().items) values.items.push_back(item.second);
  return values;
}

Value map_get(const Value& self, const Arguments& arguments) {
  arguments.expect("get()", 2);
  const Value key = arguments.get(0, ""), otherwise = arguments.get(1, "");
  const Value* found = key.is_string() ? self.map().find(key.bytes()) : nullptr;
  if (found != nullptr) return *found;
  return arguments.positional.size() > 1 ? otherwise : Value(Value::None{});
}

constexpr std::pair<std::string_view, Method> kMapMethods[] = {
    {"items", map_items}, {"keys", map_keys}, {"values", map_values}, {"get", map_get}};

template <size_t N>
std::optional<Function> find_in_table(const std::pair<std::string_view, Method> (&table)[N],
                                      const Value& self, std::string_view name) {
  for (const auto& [known, method] : table)
    if (known == name)
      return
          [self, method = method](const Arguments& arguments) { return method(self, arguments); };
  return std::nullopt;
}

constexpr std::array<std::string_view, 27> kOtherStringAttributes = {
    "casefold",    "center",  "encode",     "expandtabs", "format",       "format_map", "index",
    "isalnum",     "isalpha", "isascii",    "isdecimal",  "isidentifier", "islower",    "isnumeric",
    "isprintable", "isspace", "istitle",    "isupper",    "ljust",        "maketrans",  "partition",
    "rindex",      "rjust",   "rpartition", "splitlines", "swapcase",     "translate"};
constexpr std::array<std::string_view, 7> kOtherMapAttributes = {
    "clear", "copy", "fromkeys", "pop", "popitem", "setdefault", "update"};
constexpr std::array<std::string_view, 11> kListAttributes = {
    "append", "clear", "copy",   "count",   "extend", "index",
    "insert", "pop",   "remove", "reverse", "sort"};

template <typename Table>
bool holds(const Table& table, std::string_view name) {
  return std::find(table.begin(), table.end(), name) != table.end();
}

}  // namespace

std::optional<Function> find_method(const Value& value, std::string_view name) {
  if (value.is_string()) return find_in_table(kStringMethods, value, name);
  if (value.is_map() && !value.map().is_namespace) return find_in_table(kMapMethods, value, name);
  return std::nullopt;
}

bool is_python_attribute(const Value& value, std::string_view name) {
  if (name.starts_with("__")) return true;
  if (value.is_string())
    return holds(kOtherStringAttributes, name) || name == "zfill" || find_method(value, name);
  if (value.is_map())
    return !value.map().is_namespace &&
           (holds(kOtherMapAttributes, name) || find_method(value, name));
  return value.is_list() && holds(kListAttributes, name);
}

MarkedText strip(const MarkedText& text, StripSides sides, const Value& characters, int line) {
  std::vector<char32_t> wanted;
  const bool white_space = characters.is_undefined() || characters.is_none();
  if (!white_space) {
    const auto& set = string_argument(characters, "strip()", line).bytes();
    for (size_t offset : char_offsets(set))
      if (offset < set.size())
        wanted.push_back(decode_utf8(std::string_view(set).substr(offset)).code_point);
  }
  auto goes = [&](size_t offset) {
    auto [c, length] = decode_utf8(std::string_view(text.bytes()).substr(offset));
    if (length == 0) return false;
    return white_space ? is_python_space(c)
                       : std::find(wanted.begin(), wanted.end(), c) != wanted.end();
  };
  const auto offsets = char_offsets(text.bytes());
  size_t begin = 0, end = offsets.size() - 1;
  if (sides != StripSides::kRight)
    while (begin < end && goes(offsets[begin])) ++begin;
  if (sides != StripSides::kLeft)
    while (end > begin && goes(offsets[end - 1])) --end;
  return text.substr(offsets[begin], offsets[end] - offsets[begin]);
}

MarkedText replace(const MarkedText& text, std::string_view from, const MarkedText& to,
                   int64_t count, int line) {
  if (from.empty()) fail(line, "replace() of the empty string is not supported");
  MarkedText result;
  size_t begin = 0;
  for (int64_t done = 0; count < 0 || done < count; ++done) {
    const size_t at = text.bytes().find(from, begin);
    if (at == std::string::npos) break;
    result.append(text.substr(begin, at - begin));
    result.append(to);
    begin = at + from.size();
  }
  result.append(text.substr(begin));
  return result;
}

MarkedText with_case(const MarkedText& text, LetterCase letter_case, int line) {
  std::string bytes = text.bytes();
  bool after_letter = false;
  for (size_t i = 0; i < bytes.size(); ++i) {
    char& c = bytes[i];
    if ((c & 0x80) != 0) fail(line, "letter case of text that is not ASCII is not supported");
    const bool begins = letter_case == LetterCase::kCapitalized ? i == 0 : !after_letter;
    const bool upper =
        letter_case == LetterCase::kUpper || (begins && letter_case != LetterCase::kLower);
    const bool is_lower = c >= 'a' && c <= 'z', is_upper = c >= 'A' && c <= 'Z';
    after_letter = is_lower || is_upper;
    if (upper && is_lower) c = static_cast<char>(c - 'a' + 'A');
    if (!upper && is_upper) c = static_cast<char>(c - 'A' + 'a');
  }
  return text.map_bytes(std::move(bytes));
}

}  // namespace deepseek_train::text::jinja
