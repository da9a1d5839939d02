// Expressions, by recursive descent: one function for each level of precedence.
#pragma once

#include "src/text/jinja/nodes.h"
#include "src/text/jinja/token_stream.h"

namespace deepseek_train::text::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  // An expression; with a comma after it, a tuple.
  ExpressionPtr parse_tuple();
  // `allow_if` off: an "if" after it belongs to the statement.
  ExpressionPtr parse(bool allow_if = true);

 private:
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_comparison();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concatenation();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filters = true);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_name();
  ExpressionPtr parse_string();
  ExpressionPtr parse_parentheses();
  ExpressionPtr parse_list();
  ExpressionPtr parse_map();
  ExpressionPtr parse_postfix(ExpressionPtr value);
  ExpressionPtr parse_filters(ExpressionPtr value);
  ExpressionPtr parse_filter(ExpressionPtr value);
  ExpressionPtr parse_test(ExpressionPtr value);
  ExpressionPtr parse_subscript(ExpressionPtr value);
  CallArguments parse_arguments();
  // Whether what follows a test's name is its argument without parentheses.
  bool at_bare_argument() const;

  TokenStream& tokens_;
  int depth_ = 0;
};

}  // namespace deepseek_train::text::jinja
