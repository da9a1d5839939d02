// Jinja's filters, as far as chat templates use them.
#include "src/text/jinja/filters.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "src/text/jinja/json.h"
#include "src/text/jinja/methods.h"
#include "src/text/jinja/tests.h"

namespace deepseek_train::text::jinja {
namespace {

const MarkedText& text_of(const Value& value, std::string_view filter, int line) {
  if (value.is_undefined())
    fail(line, filter, " of \"", value.undefined_name(), "\", which is undefined");
  if (!value.is_string()) fail(line, filter, " of ", value.type_name(), " is not supported");
  return value.text();
}

bool flag(const Value& value, bool otherwise) {
  return value.is_undefined() ? otherwise : value.truth();
}

int64_t whole_number(const Value& value, int64_t otherwise, std::string_view what, int line) {
  if (value.is_undefined() || value.is_none()) return otherwise;
  if (!value.is_integral()) fail(line, what, " is ", value.type_name(), ", wanted a whole number");
  return value.integer();
}

Value trim(const Value& value, const Arguments& arguments) {
  arguments.expect("trim", 1, {"chars"});
  return strip(print(value, arguments.line), StripSides::kBoth, arguments.get(0, "chars"),
               arguments.line);
}

Value count(const Value& value, const Arguments& arguments) {
  arguments.expect("length", 0);
  return length(value, arguments.line);
}

Value tojson(const Value& value, const Arguments& arguments) {
  arguments.expect("tojson", 0, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = flag(arguments.get(9, "ensure_ascii"), false);
  style.sort_keys = flag(arguments.get(9, "sort_keys"), false);
  style.indent = static_cast<int>(std::clamp<int64_t>(
      whole_number(arguments.get(9, "indent"), -1, "tojson's indent", arguments.line), -1, 64));
  if (const Value separators = arguments.get(9, "separators"); separators.is_list()) {
    const auto& pair = separators.list().items;
    if (pair.size() != 2)
      fail(arguments.line, "tojson's separators are ", pair.size(), ", wanted 2");
    style.item_separator = text_of(pair[0], "tojson's separator", arguments.line).bytes();
    style.key_separator = text_of(pair[1], "tojson's separator", arguments.line).bytes();
  }
  auto json = to_json(value, style, arguments.line);
  return value.is_string() ? value.text().derive(std::move(json)) : MarkedText(std::move(json));
}

Value default_value(const Value& value, const Arguments& arguments) {
  arguments.expect("default", 2, {"default_value", "boolean"});
  const bool replaced =
      value.is_undefined() || (flag(arguments.get(1, "boolean"), false) && !value.truth());
  if (!replaced) return value;
  const Value otherwise = arguments.get(0, "default_value");
  return otherwise.is_undefined() ? Value("") : otherwise;
}

// The item's attribute "a.b", as join, map, selectattr and sort take it.
Value attribute_of(Value item, const std::string& path, int line) {
  for (size_t begin = 0; begin <= path.size();) {
    const size_t dot = std::min(path.find('.', begin), path.size());
    const std::string name = path.substr(begin, dot - begin);
    if (item.is_undefined())
      fail(line, "\"", item.undefined_name(), "\" is undefined, it has no \"", name, "\"");
    const Value* found = item.is_map() ? item.map().find(name) : nullptr;
    item = found != nullptr ? *found : Value::undefined(name);
    begin = dot + 1;
  }
  return item;
}

Value join(const Value& value, const Arguments& arguments) {
  arguments.expect("join", 2, {"d", "attribute"});
  const Value separator = arguments.get(0, "d"), attribute = arguments.get(1, "attribute");
  MarkedText text;
  bool first = true;
  for (Value item : iterate(value, arguments.line)) {
    if (attribute.is_string()) item = attribute_of(item, attribute.bytes(), arguments.line);
    if (!first) text.append(print(separator, arguments.line));
    text.append(print(item, arguments.line));
    first = false;
  }
  return text;
}

Value replace_filter(const Value& value, const Arguments& arguments) {
  arguments.expect("replace", 3, {"old", "new", "count"});
  return replace(print(value, arguments.line),
                 text_of(arguments.get(0, "old"), "replace", arguments.line).bytes(),
                 text_of(arguments.get(1, "new"), "replace", arguments.line),
                 whole_number(arguments.get(2, "count"), -1, "replace's count", arguments.line),
                 arguments.line);
}

Value first(const Value& value, const Arguments& arguments) {
  arguments.expect("first", 0);
  auto items = iterate(value, arguments.line);
  return items.empty() ? Value::undefined("the first of nothing") : items.front();
}

Value last(const Value& value, const Arguments& arguments) {
  arguments.expect("last", 0);
  auto items = iterate(value, arguments.line);
  return items.empty() ? Value::undefined("the last of nothing") : items.back();
}

Value list(const Value& value, const Arguments& arguments) {
  arguments.expect("list", 0);
  return List{iterate(value, arguments.line)};
}

Value items(const Value& value, const Arguments& arguments) {
  arguments.expect("items", 0);
  if (value.is_undefined()) return List{};
  if (!value.is_map()) fail(arguments.line, "items of ", value.type_name(), ", wanted a mapping");
  return (*find_method(value, "items"))(arguments);
}

Value dictsort(const Value& value, const Arguments& arguments) {
  arguments.expect("dictsort", 0);
  auto pairs = items(value, arguments).list().items;
  // Keys differ in more than their letters' case in all that templates sort.
  std::stable_sort(pairs.begin(), pairs.end(), [&](const Value& a, const Value& b) {
    const auto lower = [&](const Value& pair) {
      return with_case(pair.list().items[0].text(), LetterCase::kLower, arguments.line).bytes();
    };
    return lower(a) < lower(b);
  });
  return List{std::move(pairs)};
}

Value reverse(const Value& value, const Arguments& arguments) {
  arguments.expect("reverse", 0);
  auto all = iterate(value, arguments.line);
  std::reverse(all.begin(), all.end());
  if (!value.is_string()) return List{std::move(all)};
  MarkedText text;
  for (const Value& item : all) text.append(item.text());
  return text;
}

// Shared by select, reject, selectattr and rejectattr.
Value filtered(const Value& value, const Arguments& arguments, bool by_attribute, bool keep) {
  Arguments rest;
  rest.line = arguments.line;
  std::string attribute;
  size_t next = 0;
  if (by_attribute)
    attribute = text_of(arguments.get(next++, ""), "an attribute", arguments.line).bytes();
  Test test = [](const Value& tested, const Arguments&) { return tested.truth(); };
  if (next < arguments.positional.size()) {
    const auto& name =
        text_of(arguments.positional[next++], "a test's name", arguments.line).bytes();
    test = find_test(name);
    if (test == nullptr) fail(arguments.line, "the test \"", name, "\" is not supported");
  }
  for (; next < arguments.positional.size(); ++next)
    rest.positional.push_back(arguments.positional[next]);
  if (!arguments.named.empty()) fail(arguments.line, "select takes no arguments by name");
  List kept;
  for (const Value& item : iterate(value, arguments.line)) {
    const Value tested = by_attribute ? attribute_of(item, attribute, arguments.line) : item;
    if (test(tested, rest) == keep) kept.items.push_back(item);
  }
  return kept;
}

Value map(const Value& value, const Arguments& arguments) {
  arguments.expect("map", 8, {"attribute", "default"});
  List mapped;
  const Value attribute = arguments.get(99, "attribute");
  if (attribute.is_string()) {
    for (const Value& item : iterate(value, arguments.line)) {
      Value part = attribute_of(item, attribute.bytes(), arguments.line);
      mapped.items.push_back(part.is_undefined() ? arguments.get(99, "default") : part);
    }
    return mapped;
  }
  const auto& name = text_of(arguments.get(0, ""), "a filter's name", arguments.line).bytes();
  Filter filter = find_filter(name);
  if (filter == nullptr) fail(arguments.line, "the filter \"", name, "\" is not supported");
  Arguments rest;
  rest.line = arguments.line;
  rest.positional.assign(arguments.positional.begin() + 1, arguments.positional.end());
  for (const Value& item : iterate(value, arguments.line))
    mapped.items.push_back(filter(item, rest));
  return mapped;
}

Value unique(const Value& value, const Arguments& arguments) {
  arguments.expect("unique", 0);
  List kept;
  for (const Value& item : iterate(value, arguments.line)) {
    const bool known = std::any_of(kept.items.begin(), kept.items.end(),
                                   [&](const Value& other) { return equal(item, other); });
    if (!known) kept.items.push_back(item);
  }
  return kept;
}

Value to_string(const Value& value, const Arguments& arguments) {
  arguments.expect("string", 0);
  return print(value, arguments.line);
}

Value to_integer(const Value& value, const Arguments& arguments) {
  arguments.expect("int", 1, {"default"});
  if (value.is_integral()) return value.integer();
  if (value.is_float() && std::fabs(value.number()) < 9e18)
    return static_cast<int64_t>(value.number());
  int64_t number = 0;
  if (value.is_string()) {
    const auto text = strip(value.text(), StripSides::kBoth, {}, arguments.line).bytes();
    auto result = std::from_chars(text.data(), text.data() + text.size(), number);
    if (result.ec == std::errc() && result.ptr == text.data() + text.size()) return number;
    if (text.find_first_of("0123456789") != text.npos)
      fail(arguments.line, "int of \"", text, "\" is not supported");
  }
  return whole_number(arguments.get(0, "default"), 0, "int's default", arguments.line);
}

// Every line but the first is moved to the right.
Value indent(const Value& value, const Arguments& arguments) {
  arguments.expect("indent", 3, {"width", "first", "blank"});
  const Value width = arguments.get(0, "width");
  const std::string spaces =
      width.is_string()
          ? width.bytes()
          : std::string(static_cast<size_t>(std::clamp<int64_t>(
                            whole_number(width, 4, "indent's width", arguments.line), 0, 1024)),
                        ' ');
  const bool first_too = flag(arguments.get(1, "first"), false),
             blank_too = flag(arguments.get(2, "blank"), false);
  const MarkedText text = print(value, arguments.line);
  if (text.bytes().find_first_of("\r\v\f\x1c\x1d\x1e") != std::string::npos)
    fail(arguments.line, "indent of text with other line ends than \\n is not supported");
  MarkedText result;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.bytes().find('\n', begin), text.size());
    const bool indented =
        (begin > 0 || first_too) && (blank_too || end > begin || (begin == 0 && first_too));
    if (indented) result.append(spaces);
    result.append(text.substr(begin, end + 1 - begin));
    begin = end + 1;
  }
  return result;
}

template <LetterCase kCase>
Value change_case(const Value& value, const Arguments& arguments) {
  arguments.expect("a filter of letter case", 0);
  return with_case(print(value, arguments.line), kCase, arguments.line);
}

Value unchanged(const Value& value, const Arguments& arguments) {
  arguments.expect("safe", 0);
  return value;
}

constexpr std::pair<std::string_view, Filter> kFilters[] = {
    {"trim", trim},
    {"length", count},
    {"count", count},
    {"tojson", tojson},
    {"default", default_value},
    {"d", default_value},
    {"join", join},
    {"replace", replace_filter},
    {"first", first},
    {"last", last},
    {"list", list},
    {"items", items},
    {"dictsort", dictsort},
    {"reverse", reverse},
    {"select", [](auto& v, auto& a) { return filtered(v, a, false, true); }},
    {"reject", [](auto& v, auto& a) { return filtered(v, a, false, false); }},
    {"selectattr", [](auto& v, auto& a) { return filtered(v, a, true, true); }},
    {"rejectattr", [](auto& v, auto& a) { return filtered(v, a, true, false); }},
    {"map", map},
    {"unique", unique},
    {"string", to_string},
    {"int", to_integer},
    {"indent", indent},
    {"upper", change_case<LetterCase::kUpper>},
    {"lower", change_case<LetterCase::kLower>},
    {"capitalize", change_case<LetterCase::kCapitalized>},
    {"safe", unchanged},
};

}  // namespace

Filter find_filter(std::string_view name) {
  for (const auto& [known, filter] : kFilters)
    if (known == name) return filter;
  return nullptr;
}

}  // namespace deepseek_train::text::jinja
