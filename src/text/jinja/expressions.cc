#include <algorithm>
#include <cmath>

#include "src/text/jinja/methods.h"
#include "src/text/jinja/nodes.h"

namespace deepseek_train::text::jinja {
namespace {

constexpr int64_t kMaxRepeated = 1 << 20;

// A value of an undefined name has no parts; say which name it was.
void check_defined(const Value& value, std::string_view part, int line) {
  if (value.is_undefined())
    fail(line, "\"", value.undefined_name(), "\" is undefined, it has no ", part);
}

Value item_at(const Value& object, int64_t index) {
  const bool is_string = object.is_string();
  std::vector<size_t> offsets;
  if (is_string) offsets = char_offsets(object.bytes());
  auto count = static_cast<int64_t>(is_string ? offsets.size() - 1 : object.list().items.size());
  if (index < 0) index += count;
  if (index < 0 || index >= count) return Value::undefined(concat("item ", index));
  auto i = static_cast<size_t>(index);
  if (!is_string) return object.list().items[i];
  return object.text().substr(offsets[i], offsets[i + 1] - offsets[i]);
}

struct SliceBounds {
  int64_t begin, end, step;
};

// Python's rules for negative, absent and excessive bounds.
SliceBounds slice_bounds(const Value& begin, const Value& end, const Value& step, int64_t count,
                         int line) {
  auto number = [&](const Value& value, int64_t otherwise) {
    if (value.is_undefined() || value.is_none()) return otherwise;
    if (!value.is_integral()) fail(line, "a slice's bound is ", value.type_name());
    return value.integer();
  };
  SliceBounds bounds{0, 0, number(step, 1)};
  if (bounds.step == 0) fail(line, "a slice's step is 0");
  const int64_t low = bounds.step > 0 ? 0 : -1, high = bounds.step > 0 ? count : count - 1;
  auto clip = [&](const Value& value, int64_t otherwise) {
    int64_t at = number(value, otherwise);
    if (value.is_undefined() || value.is_none()) return at;
    if (at < 0) at += count;
    return std::clamp(at, low, high);
  };
  bounds.begin = clip(begin, bounds.step > 0 ? low : high);
  bounds.end = clip(end, bounds.step > 0 ? high : low);
  return bounds;
}

double checked_divisor(const Value& value, int line) {
  if (value.number() == 0) fail(line, "division by zero");
  return value.number();
}

Value integer_arithmetic(char operation, int64_t a, int64_t b, int line) {
  int64_t result = 0;
  bool overflow = false;
  if (operation == '+') overflow = __builtin_add_overflow(a, b, &result);
  if (operation == '-') overflow = __builtin_sub_overflow(a, b, &result);
  if (operation == '*') overflow = __builtin_mul_overflow(a, b, &result);
  if (operation == 'd' || operation == '%') {
    if (b == 0) fail(line, "division by zero");
    if (b == -1) return operation == '%' ? Value(int64_t{0}) : integer_arithmetic('-', 0, a, line);
    int64_t quotient = a / b;
    if (a % b != 0 && (a < 0) != (b < 0)) --quotient;  // towards minus infinity
    result = operation == 'd' ? quotient : a - quotient * b;
  }
  if (overflow) fail(line, "an integer is too large");
  return result;
}

Value float_arithmetic(char operation, const Value& a, const Value& b, int line) {
  const double left = a.number(), right = b.number();
  switch (operation) {
    case '+': return left + right;
    case '-': return left - right;
    case '*': return left * right;
    case '/': return left / checked_divisor(b, line);
    case 'd': return std::floor(left / checked_divisor(b, line));
    default: return left - std::floor(left / checked_divisor(b, line)) * right;
  }
}

Value repeat(const Value& value, int64_t count, int line) {
  const auto size =
      static_cast<int64_t>(value.is_string() ? value.text().size() : value.list().items.size());
  if (count > 0 && size > kMaxRepeated / count) fail(line, "\"*\" makes something too long");
  MarkedText text;
  List list{{}, value.is_list() && value.list().is_tuple};
  for (int64_t i = 0; i < count; ++i) {
    if (value.is_string()) {
      text.append(value.text());
    } else {
      list.items.insert(list.items.end(), value.list().items.begin(), value.list().items.end());
    }
  }
  return value.is_string() ? Value(std::move(text)) : Value(std::move(list));
}

Value concatenate(const Value& a, const Value& b) {
  if (a.is_string()) {
    MarkedText text = a.text();
    text.append(b.text());
    return text;
  }
  List list = a.list();
  list.items.insert(list.items.end(), b.list().items.begin(), b.list().items.end());
  return list;
}

Value arithmetic(const std::string& operation, const Value& a, const Value& b, int line) {
  const char name = operation == "//" ? 'd' : operation == "**" ? '^' : operation[0];
  const bool is_list_pair = a.is_list() && b.is_list() && a.list().is_tuple == b.list().is_tuple;
  if (name == '+' && ((a.is_string() && b.is_string()) || is_list_pair)) return concatenate(a, b);
  if (name == '*' && (a.is_string() || a.is_list()) && b.is_integral())
    return repeat(a, b.integer(), line);
  for (const Value* operand : {&a, &b})
    if (operand->is_undefined())
      fail(line, "\"", operand->undefined_name(), "\" is undefined, wanted for \"", operation,
           "\"");
  if (name == '^') fail(line, "the operator ** is not supported");
  if (!a.is_number() || !b.is_number())
    fail(line, "\"", operation, "\" of ", a.type_name(), " and ", b.type_name(),
         " is not supported");
  if (a.is_integral() && b.is_integral() && name != '/')
    return integer_arithmetic(name, a.integer(), b.integer(), line);
  return float_arithmetic(name, a, b, line);
}

bool holds(const std::string& operation, const Value& a, const Value& b, int line) {
  if (operation == "==") return equal(a, b);
  if (operation == "!=") return !equal(a, b);
  if (operation == "in") return contains(b, a, line);
  if (operation == "not in") return !contains(b, a, line);
  const int order = compare(a, b, line);
  if (operation == "<") return order < 0;
  if (operation == "<=") return order <= 0;
  return operation == ">" ? order > 0 : order >= 0;
}

}  // namespace

Arguments CallArguments::evaluate(Context& context, int line) const {
  Arguments arguments;
  arguments.line = line;
  for (const auto& value : positional) arguments.positional.push_back(value->evaluate(context));
  for (const auto& [name, value] : named)
    arguments.named.emplace_back(name, value->evaluate(context));
  return arguments;
}

Value ListDisplay::evaluate(Context& context) const {
  List list{{}, is_tuple};
  for (const auto& item : items) list.items.push_back(item->evaluate(context));
  return list;
}

Value MapDisplay::evaluate(Context& context) const {
  Map map;
  for (const auto& [key, value] : items) {
    Value name = key->evaluate(context);
    if (!name.is_string()) fail(line, "a mapping's key is ", name.type_name(), ", wanted a string");
    map.set(name.bytes(), value->evaluate(context));
  }
  return map;
}

Value Attribute::evaluate(Context& context) const {
  Value value = object->evaluate(context);
  check_defined(value, concat("\"", name, "\""), line);
  if (auto method = find_method(value, name)) return Value(std::move(*method));
  // What Python has and we do not must not pass for "undefined".
  if (is_python_attribute(value, name))
    fail(line, "the method ", name, "() of ", value.type_name(), " is not supported");
  const Value* item = value.is_map() ? value.map().find(name) : nullptr;
  if (item != nullptr) return *item;
  return Value::undefined(name);
}

Value Subscript::evaluate(Context& context) const {
  Value value = object->evaluate(context);
  Value at = index->evaluate(context);
  if (at.is_string()) {
    check_defined(value, concat("[\"", at.bytes(), "\"]"), line);
    const Value* item = value.is_map() ? value.map().find(at.bytes()) : nullptr;
    if (item != nullptr) return *item;
    if (is_python_attribute(value, at.bytes()))
      fail(line, "[\"", at.bytes(), "\"] of ", value.type_name(), " is not supported");
    return Value::undefined(at.bytes());
  }
  check_defined(value, "items", line);
  if (!at.is_integral() || !(value.is_list() || value.is_string()))
    return Value::undefined(concat(at.type_name(), " of ", value.type_name()));
  return item_at(value, at.integer());
}

Value Slice::evaluate(Context& context) const {
  Value value = object->evaluate(context);
  check_defined(value, "slices", line);
  if (!value.is_list() && !value.is_string()) fail(line, "cannot slice ", value.type_name());
  auto bound = [&](const ExpressionPtr& part) { return part ? part->evaluate(context) : Value(); };
  const auto items = iterate(value, line);
  const auto bounds =
      slice_bounds(bound(begin), bound(end), bound(step), static_cast<int64_t>(items.size()), line);
  MarkedText text;
  List list{{}, value.is_list() && value.list().is_tuple};
  for (int64_t i = bounds.begin; bounds.step > 0 ? i < bounds.end : i > bounds.end;
       i += bounds.step) {
    const Value& item = items[static_cast<size_t>(i)];
    value.is_string() ? text.append(item.text()) : list.items.push_back(item);
  }
  return value.is_string() ? Value(std::move(text)) : Value(std::move(list));
}

Value Call::evaluate(Context& context) const {
  Value function = callee->evaluate(context);
  if (function.is_undefined())
    fail(line, "the function \"", function.undefined_name(), "\" is not known");
  if (!function.is_function()) fail(line, function.type_name(), " cannot be called");
  return function.function()(arguments.evaluate(context, line));
}

Value FilterCall::evaluate(Context& context) const {
  return filter(value->evaluate(context), arguments.evaluate(context, line));
}

Value TestCall::evaluate(Context& context) const {
  return test(value->evaluate(context), arguments.evaluate(context, line)) != negated;
}

Value Unary::evaluate(Context& context) const {
  Value value = operand->evaluate(context);
  if (operation == '!') return !value.truth();
  if (!value.is_number()) fail(line, "\"", operation, "\" of ", value.type_name());
  if (operation == '+') return value;
  if (value.is_float()) return -value.number();
  return integer_arithmetic('-', 0, value.integer(), line);
}

Value Binary::evaluate(Context& context) const {
  Value a = left->evaluate(context), b = right->evaluate(context);
  if (operation != "~") return arithmetic(operation, a, b, line);
  MarkedText text = print(a, line);
  text.append(print(b, line));
  return text;
}

Value Logical::evaluate(Context& context) const {
  Value value = left->evaluate(context);
  return value.truth() == is_and ? right->evaluate(context) : value;
}

Value Comparison::evaluate(Context& context) const {
  Value value = first->evaluate(context);
  for (const auto& [operation, operand] : rest) {
    Value next = operand->evaluate(context);
    if (!holds(operation, value, next, line)) return false;
    value = std::move(next);
  }
  return true;
}

Value Conditional::evaluate(Context& context) const {
  if (condition->evaluate(context).truth()) return value->evaluate(context);
  return otherwise ? otherwise->evaluate(context) : Value::undefined("the else of an if");
}

}  // namespace deepseek_train::text::jinja
