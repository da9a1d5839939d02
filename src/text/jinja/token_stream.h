// The tokens of a template, read one after another.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "src/text/jinja/lexer.h"
#include "src/text/jinja/value.h"

namespace deepseek_train::text::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& peek(size_t ahead = 0) const {
    return tokens_[std::min(position_ + ahead, tokens_.size() - 1)];
  }
  int line() const { return peek().line; }
  Token next() {
    Token token = peek();
    if (position_ + 1 < tokens_.size()) ++position_;
    return token;
  }
  bool at(Token::Kind kind) const { return peek().kind == kind; }
  bool at_operator(std::string_view text) const {
    return at(Token::Kind::kOperator) && peek().text == text;
  }
  bool at_name(std::string_view text) const {
    return at(Token::Kind::kName) && peek().text == text;
  }
  bool skip_operator(std::string_view text) { return at_operator(text) && (next(), true); }
  bool skip_name(std::string_view text) { return at_name(text) && (next(), true); }
  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) fail(line(), "found ", describe(), ", wanted \"", text, "\"");
  }
  std::string expect_name() {
    if (!at(Token::Kind::kName)) fail(line(), "found ", describe(), ", wanted a name");
    return next().text;
  }
  void expect(Token::Kind kind) {
    if (!at(kind)) fail(line(), "found ", describe(), ", wanted the end of the tag");
    next();
  }

  // The current token, for errors.
  std::string describe() const {
    switch (peek().kind) {
      case Token::Kind::kEnd: return "the end of the template";
      case Token::Kind::kEndBlock: return "\"%}\"";
      case Token::Kind::kEndPrint: return "\"}}\"";
      case Token::Kind::kText:
      case Token::Kind::kBeginBlock:
      case Token::Kind::kBeginPrint: return "text";
      default: return concat("\"", peek().text, "\"");
    }
  }

 private:
  std::vector<Token> tokens_;  // ends with kEnd
  size_t position_ = 0;
};

}  // namespace deepseek_train::text::jinja
