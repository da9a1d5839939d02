#include "src/text/jinja/template.h"

#include "src/text/jinja/parser.h"

namespace deepseek_train::text::jinja {
namespace {

// The sandbox's limit.
constexpr int64_t kMaxRange = 100'000;

Value raise_exception(const Arguments& arguments) {
  fail(arguments.line, "the template refuses this conversation: ",
       print(arguments.get(0, "message"), arguments.line).bytes());
}

Value make_map(const Arguments& arguments, bool is_namespace) {
  Map map;
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional.front();
    if (arguments.positional.size() > 1 || !from.is_map())
      fail(arguments.line, "dict() and namespace() take values by name, or one mapping");
    map.items = from.map().items;
  }
  for (const auto& [name, value] : arguments.named) map.set(name, value);
  map.is_namespace = is_namespace;
  return map;
}

Value range(const Arguments& arguments) {
  arguments.expect("range()", 3);
  std::vector<int64_t> numbers;
  for (const Value& value : arguments.positional) {
    if (!value.is_integral()) fail(arguments.line, "range() of ", value.type_name());
    numbers.push_back(value.integer());
  }
  if (numbers.empty()) fail(arguments.line, "range() got nothing");
  const int64_t begin = numbers.size() > 1 ? numbers[0] : 0;
  const int64_t end = numbers.size() > 1 ? numbers[1] : numbers[0];
  const int64_t step = numbers.size() > 2 ? numbers[2] : 1;
  if (step == 0) fail(arguments.line, "range() with a step of 0");
  constexpr int64_t kLimit = int64_t{1} << 60;
  for (int64_t number : {begin, end, step})
    if (number > kLimit || number < -kLimit) fail(arguments.line, "range() of a number too large");
  List list;
  for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
    if (static_cast<int64_t>(list.items.size()) == kMaxRange)
      fail(arguments.line, "range() of more than ", kMaxRange, " numbers");
    list.items.emplace_back(i);
  }
  return list;
}

Value format_time(std::time_t now, const Arguments& arguments) {
  arguments.expect("strftime_now()", 1, {"format"});
  const Value format = arguments.get(0, "format");
  if (!format.is_string()) fail(arguments.line, "strftime_now() wants a string");
  std::tm parts{};
  ::localtime_r(&now, &parts);
  char buffer[256];
  const size_t size = std::strftime(buffer, sizeof(buffer), format.bytes().c_str(), &parts);
  return std::string(buffer, size);
}

}  // namespace

Template::Template(std::string_view source) : block_(parse_template(source)) {}

Rendering Template::render(const Globals& globals) const {
  Context context(globals);
  run_block(block_, context);
  return std::move(context.output());
}

Globals standard_globals(std::optional<std::time_t> now) {
  Globals globals = {
      {"raise_exception", Function(raise_exception)},
      {"range", Function(range)},
      {"dict", Function([](const Arguments& arguments) { return make_map(arguments, false); })},
      {"namespace",
       Function([](const Arguments& arguments) { return make_map(arguments, true); })}};
  if (now)
    globals.emplace_back("strftime_now", Function([time = *now](const Arguments& arguments) {
                           return format_time(time, arguments);
                         }));
  return globals;
}

}  // namespace deepseek_train::text::jinja
