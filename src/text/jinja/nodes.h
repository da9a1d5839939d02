// A template as a tree: what the parser builds and a rendering walks.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/text/jinja/context.h"
#include "src/text/jinja/value.h"

namespace deepseek_train::text::jinja {

struct Expression {
  explicit Expression(int at) : line(at) {}
  virtual ~Expression() = default;
  virtual Value evaluate(Context& context) const = 0;
  int line;
};
using ExpressionPtr = std::unique_ptr<Expression>;

// How a block of statements ended.
enum class Flow { kNext, kBreak, kContinue };

struct Statement {
  explicit Statement(int at) : line(at) {}
  virtual ~Statement() = default;
  virtual Flow run(Context& context) const = 0;
  int line;
};
using Block = std::vector<std::unique_ptr<Statement>>;

Flow run_block(const Block& block, Context& context);

// Arguments of a call, filter or test, as written.
struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  Arguments evaluate(Context& context, int line) const;
};

// ---- Expressions ----

struct Literal final : Expression {
  Literal(int at, Value constant) : Expression(at), value(std::move(constant)) {}
  Value evaluate(Context&) const override { return value; }
  Value value;
};

struct Name final : Expression {
  Name(int at, std::string text) : Expression(at), name(std::move(text)) {}
  Value evaluate(Context& context) const override { return context.find(name); }
  std::string name;
};

struct ListDisplay final : Expression {
  using Expression::Expression;
  Value evaluate(Context& context) const override;
  std::vector<ExpressionPtr> items;
  bool is_tuple = false;
};

struct MapDisplay final : Expression {
  using Expression::Expression;
  Value evaluate(Context& context) const override;
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> items;
};

// object.name: an attribute first, then a key.
struct Attribute final : Expression {
  using Expression::Expression;
  Value evaluate(Context& context) const override;
  ExpressionPtr object;
  std::string name;
};

// object[index]
struct Subscript final : Expression {
  using Expression::Expression;
  Value evaluate(Context& context) const override;
  ExpressionPtr object, index;
};

// object[begin:end:step]; any may be absent.
struct Slice final : Expression {
  using Expression::Expression;
  Value evaluate(Context& context) const override;
  ExpressionPtr object, begin, end, step;
};

struct Call final : Expression {
  using Expression::Expression;
  Value evaluate(Context& context) const override;
  ExpressionPtr callee;
  CallArguments arguments;
};

// value | filter(arguments). What it does was looked up when the template was parsed.
struct FilterCall final : Expression {
  using Expression::Expression;
  Value evaluate(Context& context) const override;
  ExpressionPtr value;
  Value (*filter)(const Value& value, const Arguments& arguments) = nullptr;
  CallArguments arguments;
};

// value is [not] test(arguments)
struct TestCall final : Expression {
  using Expression::Expression;
  Value evaluate(Context& context) const override;
  ExpressionPtr value;
  bool (*test)(const Value& value, const Arguments& arguments) = nullptr;
  bool negated = false;
  CallArguments arguments;
};

struct Unary final : Expression {
  using Expression::Expression;
  Value evaluate(Context& context) const override;
  char operation = '-';  // '-', '+', '!' for not
  ExpressionPtr operand;
};

// Arithmetic, + and ~ of text, "in", "not in".
struct Binary final : Expression {
  using Expression::Expression;
  Value evaluate(Context& context) const override;
  std::string operation;
  ExpressionPtr left, right;
};

// and, or: the operand that decides, not a boolean.
struct Logical final : Expression {
  using Expression::Expression;
  Value evaluate(Context& context) const override;
  bool is_and = false;
  ExpressionPtr left, right;
};

// a < b <= c: each with the next.
struct Comparison final : Expression {
  using Expression::Expression;
  Value evaluate(Context& context) const override;
  ExpressionPtr first;
  std::vector<std::pair<std::string, ExpressionPtr>> rest;
};

// value if condition else otherwise
struct Conditional final : Expression {
  using Expression::Expression;
  Value evaluate(Context& context) const override;
  ExpressionPtr value, condition, otherwise;
};

// ---- Statements ----

struct Text final : Statement {
  Text(int at, std::string bytes) : Statement(at), text(std::move(bytes)) {}
  Flow run(Context& context) const override;
  std::string text;
};

struct Print final : Statement {
  using Statement::Statement;
  Flow run(Context& context) const override;
  ExpressionPtr value;
};

// What {% set %} and {% for %} give values to: names, or one attribute of a namespace.
struct Target {
  std::vector<std::string> names;
  bool unpacks = false;  // several names, or one with a comma
  std::string attribute;
  void assign(const Value& value, Context& context, int line) const;
};

// {% set target = value %}, or the text of a block.
struct Set final : Statement {
  using Statement::Statement;
  Flow run(Context& context) const override;
  Target target;
  ExpressionPtr value;  // null: the block's text
  Block block;
};

struct If final : Statement {
  using Statement::Statement;
  Flow run(Context& context) const override;
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  Block otherwise;
};

struct For final : Statement {
  using Statement::Statement;
  Flow run(Context& context) const override;
  Target target;
  ExpressionPtr items, condition;  // condition may be null
  Block body, otherwise;

 private:
  std::vector<Value> select_items(Context& context) const;
};

struct Macro final : Statement {
  using Statement::Statement;
  Flow run(Context& context) const override;
  std::string name;
  std::vector<std::pair<std::string, ExpressionPtr>> parameters;  // with their defaults, or null
  Block body;

 private:
  Value call(Context& context, const Arguments& arguments) const;
};

// {% generation %}: transformers' mark around what the model answers.
struct Generation final : Statement {
  using Statement::Statement;
  Flow run(Context& context) const override;
  Block body;
};

struct Jump final : Statement {
  Jump(int at, Flow to) : Statement(at), flow(to) {}
  Flow run(Context&) const override { return flow; }
  Flow flow;
};

}  // namespace deepseek_train::text::jinja
