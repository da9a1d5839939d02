#include "src/text/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "src/text/jinja/value.h"
#include "src/text/unicode.h"

namespace deepseek_train::text::jinja {
namespace {

using Kind = Token::Kind;

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_char(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// One line end for all systems; the last one is not part of the template.
std::string normalized(std::string_view source) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    text += source[i] == '\r' ? '\n' : source[i];
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalized(source)) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) read_text();
    add(Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(position_); }
  char peek(size_t ahead = 0) const {
    return position_ + ahead < source_.size() ? source_[position_ + ahead] : '\0';
  }
  void advance(size_t count) {
    line_ += static_cast<int>(
        std::count(source_.begin() + static_cast<std::ptrdiff_t>(position_),
                   source_.begin() + static_cast<std::ptrdiff_t>(position_ + count), '\n'));
    position_ += count;
  }
  void add(Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  // Where the next tag begins; the end if there is none.
  size_t find_tag() const {
    for (size_t i = position_; i + 1 < source_.size(); ++i)
      if (source_[i] == '{' &&
          (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#'))
        return i;
    return source_.size();
  }

  // The text up to the next tag, then the tag.
  void read_text() {
    const size_t tag = find_tag();
    const bool at_end = tag == source_.size();
    const char type = at_end ? '\0' : source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    std::string text = source_.substr(position_, tag - position_);
    if (!at_end && sign == '-') {
      while (!text.empty() && is_space(text.back())) text.pop_back();
    } else if (!at_end && sign != '+' && type != '{') {
      strip_indent(text);
    }
    if (!text.empty()) add(Kind::kText, std::move(text));
    advance(tag - position_);
    if (at_end) return;
    advance(2 + (sign == '-' || (sign == '+' && type != '{')));
    type == '#' ? read_comment() : read_tag(type == '%');
  }

  // lstrip_blocks: blanks between the line's begin and a block go.
  void strip_indent(std::string& text) const {
    size_t end = text.size();
    while (end > 0 && (text[end - 1] == ' ' || text[end - 1] == '\t')) --end;
    const bool whole_line = end > 0 ? text[end - 1] == '\n' : at_line_begin();
    if (whole_line) text.resize(end);
  }
  // Whether the text that begins here begins a line.
  bool at_line_begin() const { return position_ == 0 || source_[position_ - 1] == '\n'; }

  void read_comment() {
    const size_t end = source_.find("#}", position_);
    if (end == std::string::npos) fail(line_, "a comment {# does not end");
    const char sign = end > position_ ? source_[end - 1] : '\0';
    advance(end + 2 - position_);
    skip_after_tag(sign, /*trims_line_end=*/true);
  }

  void skip_after_tag(char sign, bool trims_line_end) {
    if (sign == '-') {
      while (position_ < source_.size() && is_space(peek())) advance(1);
    } else if (sign != '+' && trims_line_end && peek() == '\n') {
      advance(1);
    }
  }

  void read_tag(bool is_block) {
    const int begin_line = line_;
    add(is_block ? Kind::kBeginBlock : Kind::kBeginPrint, "");
    const std::string_view close = is_block ? "%}" : "}}";
    int open_brackets = 0;
    while (true) {
      while (is_space(peek()) && position_ < source_.size()) advance(1);
      if (position_ >= source_.size())
        fail(begin_line, "a tag ", is_block ? "{%" : "{{", " does not end");
      const bool signed_close =
          (peek() == '-' || (peek() == '+' && is_block)) && rest().substr(1).starts_with(close);
      if (open_brackets == 0 && (signed_close || rest().starts_with(close))) {
        const char sign = signed_close ? peek() : '\0';
        add(is_block ? Kind::kEndBlock : Kind::kEndPrint, "");
        advance(signed_close ? 3 : 2);
        return skip_after_tag(sign, is_block);
      }
      read_token();
      const auto& last = tokens_.back();
      if (last.text == "raw" && tokens_[tokens_.size() - 2].kind == Kind::kBeginBlock)
        fail(line_, "{% raw %} is not supported");
      if (last.kind != Kind::kOperator) continue;
      if (last.text == "(" || last.text == "[" || last.text == "{") ++open_brackets;
      if (last.text == ")" || last.text == "]" || last.text == "}")
        open_brackets = std::max(0, open_brackets - 1);
    }
  }

  void read_token() {
    const char c = peek();
    if (c == '"' || c == '\'') return read_string(c);
    if (is_digit(c)) return read_number();
    if (is_name_char(c)) {
      size_t length = 1;
      while (is_name_char(peek(length))) ++length;
      add(Kind::kName, std::string(rest().substr(0, length)));
      return advance(length);
    }
    read_operator();
  }

  void read_number() {
    size_t length = 1;
    while (is_digit(peek(length)) || (peek(length) == '_' && is_digit(peek(length + 1)))) ++length;
    const bool is_float = peek(length) == '.' && is_digit(peek(length + 1));
    if (is_float) {
      ++length;
      while (is_digit(peek(length))) ++length;
    }
    if (is_name_char(peek(length))) fail(line_, "a number is followed by \"", peek(length), "\"");
    std::string digits(rest().substr(0, length));
    std::erase(digits, '_');
    add(is_float ? Kind::kFloat : Kind::kInteger, std::move(digits));
    advance(length);
  }

  void read_operator() {
    static constexpr std::array<std::string_view, 29> kOperators = {
        "//", "**", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=",
        "(",  ")",  "[",  "]",  "{",  "}",  ",", ".", ":", "|", ";", "!", "&", "@"};
    for (auto text : kOperators) {
      if (!rest().starts_with(text)) continue;
      add(Kind::kOperator, std::string(text));
      return advance(text.size());
    }
    fail(line_, "\"", peek(), "\" begins nothing that is known");
  }

  void read_string(char quote) {
    const int begin_line = line_;
    std::string value;
    size_t i = position_ + 1;
    while (i < source_.size() && source_[i] != quote) {
      if (source_[i] == '\\' && i + 1 < source_.size()) {
        i = read_escape(i + 1, value);
      } else {
        value += source_[i++];
      }
    }
    if (i >= source_.size()) fail(begin_line, "a string does not end");
    add(Kind::kString, std::move(value));
    advance(i + 1 - position_);
  }

  // Python's escapes. `at` is the character after the backslash; returns the place after the
  // escape.
  size_t read_escape(size_t at, std::string& value) const {
    const char c = source_[at];
    static constexpr std::string_view kNames = "nrtbfv0\\'\"a",
                                      kValues("\n\r\t\b\f\v\0\\'\"\a", 11);
    if (size_t known = kNames.find(c); known != kNames.npos) {
      if (c == '0' && at + 1 < source_.size() && is_digit(source_[at + 1]))
        fail(line_, "octal escapes in strings are not supported");
      value += kValues[known];
      return at + 1;
    }
    if (c == '\n') return at + 1;
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0) {
      if (is_digit(c) || c == 'N') fail(line_, "the escape \\", c, " is not supported");
      value.append(1, '\\').append(1, c);
      return at + 1;
    }
    append_utf8(read_hex(at + 1, digits), value);
    return at + 1 + digits;
  }

  char32_t read_hex(size_t at, size_t digits) const {
    char32_t code_point = 0;
    for (size_t i = at; i < at + digits; ++i) {
      const char c = i < source_.size() ? source_[i] : '\0';
      const int digit = is_digit(c)              ? c - '0'
                        : (c >= 'a' && c <= 'f') ? c - 'a' + 10
                        : (c >= 'A' && c <= 'F') ? c - 'A' + 10
                                                 : -1;
      if (digit < 0) fail(line_, "an escape in a string lacks hexadecimal digits");
      code_point = code_point * 16 + static_cast<char32_t>(digit);
    }
    if (code_point > 0x10ffff || (code_point >= 0xd800 && code_point < 0xe000))
      fail(line_, "an escape in a string is no Unicode character");
    return code_point;
  }

  const std::string source_;
  size_t position_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace deepseek_train::text::jinja
