// The values a template computes with: Python's, as far as chat templates use them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "deepseek_train/core/error.h"
#include "src/text/jinja/marked_text.h"

namespace deepseek_train::text::jinja {

// Every error of a template: InvalidArgument with the line it stands in.
template <typename... Parts>
[[noreturn]] void fail(int line, const Parts&... parts) {
  throw InvalidArgument(concat("chat template, line ", line, ": ", parts...));
}

class Value;
struct Arguments;

struct List {
  std::vector<Value> items;
  bool is_tuple = false;  // differs when printed
};

// In the order of insertion, as Python's dict.
struct Map {
  std::vector<std::pair<std::string, Value>> items;
  int32_t message = -1;       // which message of the conversation this is; -1: none
  bool is_namespace = false;  // namespace(): the only values that can be changed

  const Value* find(std::string_view key) const;
  void set(std::string_view key, Value value);
};

using Function = std::function<Value(const Arguments&)>;

// Cheap to copy. What a name that was never set gives is "undefined", which remembers the name.
class Value {
 public:
  struct Undefined {
    std::string name;
  };
  struct None {};

  Value() : data_(Undefined{}) {}
  Value(None) : data_(None{}) {}
  Value(bool value) : data_(value) {}
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(MarkedText text) : data_(std::make_shared<const MarkedText>(std::move(text))) {}
  Value(std::string text) : Value(MarkedText(std::move(text))) {}
  Value(const char* text) : Value(std::string(text)) {}
  Value(List list) : data_(std::make_shared<const List>(std::move(list))) {}
  Value(Map map) : data_(std::make_shared<Map>(std::move(map))) {}
  Value(Function function) : data_(std::make_shared<const Function>(std::move(function))) {}
  static Value undefined(std::string name);

  bool is_undefined() const { return holds<Undefined>(); }
  bool is_none() const { return holds<None>(); }
  bool is_bool() const { return holds<bool>(); }
  bool is_int() const { return holds<int64_t>(); }
  bool is_float() const { return holds<double>(); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_string() const { return holds<TextPtr>(); }
  bool is_list() const { return holds<ListPtr>(); }
  bool is_map() const { return holds<MapPtr>(); }
  bool is_function() const { return holds<FunctionPtr>(); }
  // Integers as Python has them: True is 1.
  bool is_integral() const { return is_bool() || is_int(); }

  const MarkedText& text() const { return *std::get<TextPtr>(data_); }
  const std::string& bytes() const { return text().bytes(); }
  const List& list() const { return *std::get<ListPtr>(data_); }
  Map& map() const { return *std::get<MapPtr>(data_); }
  const Function& function() const { return *std::get<FunctionPtr>(data_); }
  int64_t integer() const;
  double number() const;
  const std::string& undefined_name() const { return std::get<Undefined>(data_).name; }

  bool truth() const;
  // For errors: "a string", "none".
  std::string_view type_name() const;

 private:
  using TextPtr = std::shared_ptr<const MarkedText>;
  using ListPtr = std::shared_ptr<const List>;
  using MapPtr = std::shared_ptr<Map>;
  using FunctionPtr = std::shared_ptr<const Function>;
  template <typename T>
  bool holds() const {
    return std::holds_alternative<T>(data_);
  }

  std::variant<Undefined, None, bool, int64_t, double, TextPtr, ListPtr, MapPtr, FunctionPtr> data_;
};

// What a function, filter or method was called with.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
  int line = 0;

  // The argument at `index` or by `name`; undefined if it was not given.
  Value get(size_t index, std::string_view name) const;
  // Fails if more were given, or others by name; `what` names the function.
  void expect(std::string_view what, size_t max_positional,
              std::initializer_list<std::string_view> names = {}) const;
};

// Python's ==; values of different kinds are unequal, numbers compare by value.
bool equal(const Value& a, const Value& b);
// -1, 0, 1 for numbers, strings and lists; fails for others.
int compare(const Value& a, const Value& b, int line);
// What {{ value }} prints: str() of it. Undefined prints nothing.
MarkedText print(const Value& value, int line);
// What a value looks like inside a printed list: repr().
std::string repr(const Value& value, int line);
// The items of a list, keys of a map, characters of a string; nothing for undefined.
std::vector<Value> iterate(const Value& value, int line);
// Python's `item in container`.
bool contains(const Value& container, const Value& item, int line);
// len(): characters of a string, items of others.
int64_t length(const Value& value, int line);

// Byte offsets at which the characters of UTF-8 text begin, and its size at the end.
std::vector<size_t> char_offsets(std::string_view text);

}  // namespace deepseek_train::text::jinja
