#include "src/text/jinja/expression_parser.h"

#include <algorithm>
#include <charconv>

#include "src/text/jinja/filters.h"
#include "src/text/jinja/tests.h"

namespace deepseek_train::text::jinja {
namespace {

using Kind = Token::Kind;

// Nesting that no template has, and that would fill the stack.
constexpr int kMaxDepth = 100;

class DepthGuard {
 public:
  DepthGuard(int& depth, int line) : depth_(depth) {
    if (++depth_ > kMaxDepth) {
      --depth_;
      fail(line, "an expression nests more than ", kMaxDepth, " deep");
    }
  }
  ~DepthGuard() { --depth_; }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  int& depth_;
};

ExpressionPtr binary(int line, std::string operation, ExpressionPtr left, ExpressionPtr right) {
  auto node = std::make_unique<Binary>(line);
  node->operation = std::move(operation);
  node->left = std::move(left);
  node->right = std::move(right);
  return node;
}

ExpressionPtr logical(int line, bool is_and, ExpressionPtr left, ExpressionPtr right) {
  auto node = std::make_unique<Logical>(line);
  node->is_and = is_and;
  node->left = std::move(left);
  node->right = std::move(right);
  return node;
}

template <typename T>
T parse_number(const Token& token) {
  T value{};
  auto result = std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
  if (result.ec != std::errc()) fail(token.line, "the number ", token.text, " is too large");
  return value;
}

}  // namespace

ExpressionPtr ExpressionParser::parse_tuple() {
  const int line = tokens_.line();
  auto first = parse();
  if (!tokens_.at_operator(",")) return first;
  auto tuple = std::make_unique<ListDisplay>(line);
  tuple->is_tuple = true;
  tuple->items.push_back(std::move(first));
  while (tokens_.skip_operator(",") && !tokens_.at(Kind::kEndBlock) &&
         !tokens_.at(Kind::kEndPrint) && !tokens_.at_operator(")"))
    tuple->items.push_back(parse());
  return tuple;
}

ExpressionPtr ExpressionParser::parse(bool allow_if) {
  DepthGuard guard(depth_, tokens_.line());
  auto value = parse_or();
  while (allow_if && tokens_.at_name("if")) {
    auto node = std::make_unique<Conditional>(tokens_.next().line);
    node->condition = parse_or();
    node->value = std::move(value);
    if (tokens_.skip_name("else")) node->otherwise = parse();
    value = std::move(node);
  }
  return value;
}

ExpressionPtr ExpressionParser::parse_or() {
  auto left = parse_and();
  while (tokens_.at_name("or")) {
    const int line = tokens_.next().line;
    left = logical(line, false, std::move(left), parse_and());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_and() {
  auto left = parse_not();
  while (tokens_.at_name("and")) {
    const int line = tokens_.next().line;
    left = logical(line, true, std::move(left), parse_not());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_not() {
  if (!tokens_.at_name("not")) return parse_comparison();
  DepthGuard guard(depth_, tokens_.line());
  auto node = std::make_unique<Unary>(tokens_.next().line);
  node->operation = '!';
  node->operand = parse_not();
  return node;
}

ExpressionPtr ExpressionParser::parse_comparison() {
  auto node = std::make_unique<Comparison>(tokens_.line());
  node->first = parse_sum();
  while (true) {
    static constexpr std::string_view kOperators[] = {"==", "!=", "<=", ">=", "<", ">"};
    auto found = std::find_if(std::begin(kOperators), std::end(kOperators),
                              [&](auto text) { return tokens_.at_operator(text); });
    std::string operation;
    if (found != std::end(kOperators)) {
      operation = tokens_.next().text;
    } else if (tokens_.skip_name("in")) {
      operation = "in";
    } else if (tokens_.at_name("not") && tokens_.peek(1).kind == Kind::kName &&
               tokens_.peek(1).text == "in") {
      tokens_.next();
      tokens_.next();
      operation = "not in";
    } else {
      break;
    }
    node->rest.emplace_back(std::move(operation), parse_sum());
  }
  return node->rest.empty() ? std::move(node->first) : ExpressionPtr(std::move(node));
}

ExpressionPtr ExpressionParser::parse_sum() {
  auto left = parse_concatenation();
  while (tokens_.at_operator("+") || tokens_.at_operator("-")) {
    Token sign = tokens_.next();
    left = binary(sign.line, sign.text, std::move(left), parse_concatenation());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concatenation() {
  auto left = parse_product();
  while (tokens_.at_operator("~")) {
    const int line = tokens_.next().line;
    left = binary(line, "~", std::move(left), parse_product());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_product() {
  auto left = parse_power();
  while (tokens_.at_operator("*") || tokens_.at_operator("/") || tokens_.at_operator("//") ||
         tokens_.at_operator("%")) {
    Token sign = tokens_.next();
    left = binary(sign.line, sign.text, std::move(left), parse_power());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_power() {
  auto left = parse_unary();
  if (tokens_.at_operator("**")) fail(tokens_.line(), "the operator ** is not supported");
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filters) {
  ExpressionPtr value;
  if (tokens_.at_operator("-") || tokens_.at_operator("+")) {
    DepthGuard guard(depth_, tokens_.line());
    auto node = std::make_unique<Unary>(tokens_.line());
    node->operation = tokens_.next().text[0];
    node->operand = parse_unary(false);
    value = std::move(node);
  } else {
    value = parse_primary();
  }
  value = parse_postfix(std::move(value));
  return with_filters ? parse_filters(std::move(value)) : std::move(value);
}

ExpressionPtr ExpressionParser::parse_primary() {
  const Token& token = tokens_.peek();
  switch (token.kind) {
    case Kind::kName: return parse_name();
    case Kind::kString: return parse_string();
    case Kind::kInteger: {
      Token number = tokens_.next();
      return std::make_unique<Literal>(number.line, Value(parse_number<int64_t>(number)));
    }
    case Kind::kFloat: {
      Token number = tokens_.next();
      return std::make_unique<Literal>(number.line, Value(parse_number<double>(number)));
    }
    default: break;
  }
  if (tokens_.at_operator("(")) return parse_parentheses();
  if (tokens_.at_operator("[")) return parse_list();
  if (tokens_.at_operator("{")) return parse_map();
  fail(token.line, "found ", tokens_.describe(), ", wanted a value");
}

ExpressionPtr ExpressionParser::parse_name() {
  Token token = tokens_.next();
  auto literal = [&](Value value) {
    return std::make_unique<Literal>(token.line, std::move(value));
  };
  if (token.text == "true" || token.text == "True") return literal(true);
  if (token.text == "false" || token.text == "False") return literal(false);
  if (token.text == "none" || token.text == "None") return literal(Value::None{});
  return std::make_unique<Name>(token.line, token.text);
}

// Strings that stand side by side are one.
ExpressionPtr ExpressionParser::parse_string() {
  Token token = tokens_.next();
  while (tokens_.at(Kind::kString)) token.text += tokens_.next().text;
  return std::make_unique<Literal>(token.line, Value(std::move(token.text)));
}

ExpressionPtr ExpressionParser::parse_parentheses() {
  const int line = tokens_.next().line;
  if (tokens_.skip_operator(")")) {
    auto empty = std::make_unique<ListDisplay>(line);
    empty->is_tuple = true;
    return empty;
  }
  auto value = parse_tuple();
  tokens_.expect_operator(")");
  return value;
}

ExpressionPtr ExpressionParser::parse_list() {
  auto list = std::make_unique<ListDisplay>(tokens_.next().line);
  while (!tokens_.at_operator("]")) {
    list->items.push_back(parse());
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator("]");
  return list;
}

ExpressionPtr ExpressionParser::parse_map() {
  auto map = std::make_unique<MapDisplay>(tokens_.next().line);
  while (!tokens_.at_operator("}")) {
    auto key = parse();
    tokens_.expect_operator(":");
    map->items.emplace_back(std::move(key), parse());
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator("}");
  return map;
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr value) {
  while (true) {
    const int line = tokens_.line();
    if (tokens_.skip_operator(".")) {
      auto node = std::make_unique<Attribute>(line);
      node->object = std::move(value);
      node->name = tokens_.expect_name();
      value = std::move(node);
    } else if (tokens_.at_operator("[")) {
      value = parse_subscript(std::move(value));
    } else if (tokens_.at_operator("(")) {
      auto node = std::make_unique<Call>(line);
      node->callee = std::move(value);
      node->arguments = parse_arguments();
      value = std::move(node);
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr value) {
  const int line = tokens_.next().line;
  auto slice = std::make_unique<Slice>(line);
  bool is_slice = false;
  ExpressionPtr* parts[] = {&slice->begin, &slice->end, &slice->step};
  for (size_t i = 0; i < 3; ++i) {
    if (!tokens_.at_operator(":") && !tokens_.at_operator("]")) *parts[i] = parse();
    if (!tokens_.skip_operator(":")) break;
    is_slice = true;
  }
  if (!is_slice && !slice->begin) fail(line, "a subscript [] is empty");
  tokens_.expect_operator("]");
  if (is_slice) {
    slice->object = std::move(value);
    return slice;
  }
  auto node = std::make_unique<Subscript>(line);
  node->object = std::move(value);
  node->index = std::move(slice->begin);
  return node;
}

CallArguments ExpressionParser::parse_arguments() {
  CallArguments arguments;
  tokens_.expect_operator("(");
  while (!tokens_.at_operator(")")) {
    const bool is_named = tokens_.at(Kind::kName) && tokens_.peek(1).kind == Kind::kOperator &&
                          tokens_.peek(1).text == "=";
    if (is_named) {
      auto name = tokens_.next().text;
      tokens_.next();
      arguments.named.emplace_back(std::move(name), parse());
    } else {
      if (!arguments.named.empty())
        fail(tokens_.line(), "an argument without a name stands after one with a name");
      arguments.positional.push_back(parse());
    }
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator(")");
  return arguments;
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr value) {
  while (true) {
    if (tokens_.skip_operator("|")) {
      value = parse_filter(std::move(value));
    } else if (tokens_.skip_name("is")) {
      value = parse_test(std::move(value));
    } else if (tokens_.at_operator("(")) {
      auto node = std::make_unique<Call>(tokens_.line());
      node->callee = std::move(value);
      node->arguments = parse_arguments();
      value = std::move(node);
    } else {
      return value;
    }
  }
}

ExpressionPtr ExpressionParser::parse_filter(ExpressionPtr value) {
  auto node = std::make_unique<FilterCall>(tokens_.line());
  const auto name = tokens_.expect_name();
  node->filter = find_filter(name);
  if (node->filter == nullptr) fail(node->line, "the filter \"", name, "\" is not supported");
  if (tokens_.at_operator("(")) node->arguments = parse_arguments();
  node->value = std::move(value);
  return node;
}

bool ExpressionParser::at_bare_argument() const {
  const Token& token = tokens_.peek();
  if (token.kind == Kind::kName)
    return token.text != "else" && token.text != "or" && token.text != "and" &&
           token.text != "is" && token.text != "if" && token.text != "in" && token.text != "not";
  return token.kind == Kind::kString || token.kind == Kind::kInteger ||
         token.kind == Kind::kFloat || tokens_.at_operator("[") || tokens_.at_operator("{");
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr value) {
  auto node = std::make_unique<TestCall>(tokens_.line());
  node->negated = tokens_.skip_name("not");
  const auto name = tokens_.expect_name();
  node->test = find_test(name);
  if (node->test == nullptr) fail(node->line, "the test \"", name, "\" is not supported");
  if (tokens_.at_operator("(")) {
    node->arguments = parse_arguments();
  } else if (at_bare_argument()) {
    node->arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  node->value = std::move(value);
  return node;
}

}  // namespace deepseek_train::text::jinja
