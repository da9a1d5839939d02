// A template's source cut into tokens, with Jinja's rules of white space as transformers sets them
// (trim_blocks, lstrip_blocks).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deepseek_train::text::jinja {

struct Token {
  enum class Kind {
    kText,        // outside of tags
    kBeginBlock,  // {%
    kEndBlock,    // %}
    kBeginPrint,  // {{
    kEndPrint,    // }}
    kName,
    kString,  // its value, escapes resolved
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind = Kind::kEnd;
  std::string text;
  int line = 1;
};

// Ends with a token of kind kEnd. Throws InvalidArgument with the line for a tag that does not end,
// a character that begins no token, and {% raw %}.
std::vector<Token> tokenize(std::string_view source);

}  // namespace deepseek_train::text::jinja
