#include <algorithm>

#include "src/text/jinja/nodes.h"

namespace deepseek_train::text::jinja {
namespace {

// The variable "loop" of a for statement.
Value loop_variable(const std::vector<Value>& items, size_t index) {
  const auto count = static_cast<int64_t>(items.size()), i = static_cast<int64_t>(index);
  Map loop;
  loop.items = {{"index", i + 1},        {"index0", i},
                {"revindex", count - i}, {"revindex0", count - i - 1},
                {"first", i == 0},       {"last", i + 1 == count},
                {"length", count}};
  loop.set("previtem", index > 0 ? items[index - 1] : Value::undefined("loop.previtem"));
  loop.set("nextitem",
           index + 1 < items.size() ? items[index + 1] : Value::undefined("loop.nextitem"));
  loop.set("cycle", Function([index](const Arguments& arguments) {
             if (arguments.positional.empty()) fail(arguments.line, "loop.cycle() got nothing");
             return arguments.positional[index % arguments.positional.size()];
           }));
  return loop;
}

int32_t message_of(const Value& value) { return value.is_map() ? value.map().message : -1; }

}  // namespace

Flow run_block(const Block& block, Context& context) {
  for (const auto& statement : block) {
    context.count_step(statement->line);
    if (Flow flow = statement->run(context); flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Flow Text::run(Context& context) const {
  context.output().text.append(text);
  return Flow::kNext;
}

Flow Print::run(Context& context) const {
  context.output().text.append(print(value->evaluate(context), line));
  return Flow::kNext;
}

void Target::assign(const Value& value, Context& context, int line) const {
  if (!attribute.empty()) {
    Value object = context.find(names.front());
    if (!object.is_map() || !object.map().is_namespace)
      fail(line, "\"", names.front(), "\" is no namespace, its \"", attribute, "\" cannot be set");
    return object.map().set(attribute, value);
  }
  if (!unpacks) return context.set(names.front(), value);
  auto parts = iterate(value, line);
  if (parts.size() != names.size())
    fail(line, "cannot give ", parts.size(), " values to ", names.size(), " names");
  for (size_t i = 0; i < names.size(); ++i) context.set(names[i], parts[i]);
}

Flow Set::run(Context& context) const {
  if (value) {
    target.assign(value->evaluate(context), context, line);
    return Flow::kNext;
  }
  Context::Capture capture(context);
  Flow flow = Flow::kNext;
  {
    Context::Scope scope(context);
    flow = run_block(block, context);
  }
  target.assign(capture.take(), context, line);
  return flow;
}

Flow If::run(Context& context) const {
  for (const auto& [condition, block] : branches)
    if (condition->evaluate(context).truth()) return run_block(block, context);
  return run_block(otherwise, context);
}

std::vector<Value> For::select_items(Context& context) const {
  auto all = iterate(items->evaluate(context), line);
  if (!condition) return all;
  std::vector<Value> selected;
  for (const Value& item : all) {
    Context::Scope scope(context);
    target.assign(item, context, line);
    if (condition->evaluate(context).truth()) selected.push_back(item);
  }
  return selected;
}

Flow For::run(Context& context) const {
  const auto selected = select_items(context);
  if (selected.empty()) return run_block(otherwise, context);
  for (size_t i = 0; i < selected.size(); ++i) {
    Context::Scope scope(context);
    context.set("loop", loop_variable(selected, i));
    target.assign(selected[i], context, line);
    const size_t begin = context.output().text.size();
    const Flow flow = run_block(body, context);
    const size_t end = context.output().text.size();
    if (int32_t message = message_of(selected[i]); message >= 0 && end > begin)
      context.output().turns.push_back({{begin, end}, message});
    if (flow == Flow::kBreak) break;
  }
  return Flow::kNext;
}

// The function lives as long as the rendering that the macro's statement is part of.
Flow Macro::run(Context& context) const {
  context.set(name, Function([this, &context](const Arguments& arguments) {
                return call(context, arguments);
              }));
  return Flow::kNext;
}

Value Macro::call(Context& context, const Arguments& arguments) const {
  if (arguments.positional.size() > parameters.size())
    fail(arguments.line, "the macro ", name, " takes ", parameters.size(), " arguments, got ",
         arguments.positional.size());
  for (const auto& given : arguments.named)
    if (std::none_of(parameters.begin(), parameters.end(),
                     [&](const auto& parameter) { return parameter.first == given.first; }))
      fail(arguments.line, "the macro ", name, " has no parameter \"", given.first, "\"");
  Context::MacroScopes scopes(context, arguments.line);
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& [parameter, otherwise] = parameters[i];
    Value value = arguments.get(i, parameter);
    if (value.is_undefined())
      value = otherwise ? otherwise->evaluate(context) : Value::undefined(parameter);
    context.set(parameter, std::move(value));
  }
  Context::Capture capture(context);
  run_block(body, context);
  return capture.take();
}

Flow Generation::run(Context& context) const {
  const size_t begin = context.output().text.size();
  const Flow flow = run_block(body, context);
  context.output().generations.push_back({begin, context.output().text.size()});
  return flow;
}

}  // namespace deepseek_train::text::jinja
