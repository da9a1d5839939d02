// Jinja's tests, as far as chat templates use them.
#include "src/text/jinja/tests.h"

namespace deepseek_train::text::jinja {
namespace {

// For tests without arguments.
template <bool (*kTest)(const Value&)>
bool plain(const Value& value, const Arguments& arguments) {
  arguments.expect("the test", 0);
  return kTest(value);
}

Value other(const Arguments& arguments) {
  arguments.expect("the test", 1);
  if (arguments.positional.empty())
    fail(arguments.line, "the test needs something to compare with");
  return arguments.positional.front();
}

bool remainder_is(const Value& value, int64_t divisor, int64_t wanted, int line) {
  if (!value.is_integral()) fail(line, "a test for divisibility of ", value.type_name());
  if (divisor == 0) fail(line, "a test for divisibility by zero");
  return divisor == -1 || (value.integer() % divisor + divisor) % divisor == wanted;
}

bool divisible(const Value& value, const Arguments& arguments) {
  const Value divisor = other(arguments);
  if (!divisor.is_integral())
    fail(arguments.line, "a test for divisibility by ", divisor.type_name());
  return remainder_is(value, divisor.integer(), 0, arguments.line);
}

bool is_defined(const Value& value) { return !value.is_undefined(); }
bool is_undefined(const Value& value) { return value.is_undefined(); }
bool is_none(const Value& value) { return value.is_none(); }
bool is_string(const Value& value) { return value.is_string(); }
bool is_number(const Value& value) { return value.is_number(); }
bool is_integer(const Value& value) { return value.is_int(); }
bool is_float(const Value& value) { return value.is_float(); }
bool is_boolean(const Value& value) { return value.is_bool(); }
bool is_true(const Value& value) { return value.is_bool() && value.truth(); }
bool is_false(const Value& value) { return value.is_bool() && !value.truth(); }
bool is_mapping(const Value& value) { return value.is_map() && !value.map().is_namespace; }
// Undefined can be looped over; it has no items.
bool is_sequence(const Value& value) {
  return value.is_string() || value.is_list() || is_mapping(value) || value.is_undefined();
}
bool is_callable(const Value& value) { return value.is_function(); }

constexpr std::pair<std::string_view, Test> kTests[] = {
    {"defined", plain<is_defined>},
    {"undefined", plain<is_undefined>},
    {"none", plain<is_none>},
    {"string", plain<is_string>},
    {"number", plain<is_number>},
    {"integer", plain<is_integer>},
    {"float", plain<is_float>},
    {"boolean", plain<is_boolean>},
    {"true", plain<is_true>},
    {"false", plain<is_false>},
    {"mapping", plain<is_mapping>},
    {"iterable", plain<is_sequence>},
    {"sequence", plain<is_sequence>},
    {"callable", plain<is_callable>},
    {"eq", [](auto& v, auto& a) { return equal(v, other(a)); }},
    {"equalto", [](auto& v, auto& a) { return equal(v, other(a)); }},
    {"ne", [](auto& v, auto& a) { return !equal(v, other(a)); }},
    {"in", [](auto& v, auto& a) { return contains(other(a), v, a.line); }},
    {"lt", [](auto& v, auto& a) { return compare(v, other(a), a.line) < 0; }},
    {"le", [](auto& v, auto& a) { return compare(v, other(a), a.line) <= 0; }},
    {"gt", [](auto& v, auto& a) { return compare(v, other(a), a.line) > 0; }},
    {"ge", [](auto& v, auto& a) { return compare(v, other(a), a.line) >= 0; }},
    {"divisibleby", divisible},
    {"even", [](auto& v, auto& a) { return remainder_is(v, 2, 0, a.line); }},
    {"odd", [](auto& v, auto& a) { return remainder_is(v, 2, 1, a.line); }},
};

}  // namespace

Test find_test(std::string_view name) {
  for (const auto& [known, test] : kTests)
    if (known == name) return test;
  return nullptr;
}

}  // namespace deepseek_train::text::jinja
