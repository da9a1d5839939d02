// Oniguruma's dialect (Ruby's) and PCRE2's agree on what tokenizers use, apart from the few things
// handled here.
#include "deepseek_train/core/error.h"
#include "src/text/regex.h"

namespace deepseek_train::text {
namespace {

constexpr std::string_view kWhiteSpace =
    R"(\x{09}-\x{0d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
// Escapes whose meaning differs between the engines, or that name no character set.
constexpr std::string_view kUnsupportedEscapes = "wWbBhHXRGKzZAQE";

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string translate() {
    while (position_ < pattern_.size()) {
      char c = pattern_[position_];
      if (c == '\\') {
        translate_escape();
      } else if (in_class_) {
        translate_in_class(c);
      } else {
        if (c == '[') open_class();
        copy(1);
      }
    }
    return std::move(result_);
  }

 private:
  // The bracket itself is copied by the caller; a '^' or a leading ']' belong to the opening.
  void open_class() {
    in_class_ = true;
    class_begin_ = position_ + 1;
    if (pattern_.substr(class_begin_).starts_with('^')) ++class_begin_;
  }

  void translate_in_class(char c) {
    bool first = position_ == class_begin_;
    bool closes = c == ']' && !first;
    DST_CHECK(c != '[', "the tokenizer's pattern \"", pattern_,
              "\" nests character classes at byte ", position_, ", which is not supported");
    DST_CHECK(!pattern_.substr(position_).starts_with("&&"), "the tokenizer's pattern \"", pattern_,
              "\" intersects character classes at byte ", position_, ", which is not supported");
    if (closes) in_class_ = false;
    copy(1);
  }

  void translate_escape() {
    DST_CHECK(position_ + 1 < pattern_.size(), "the tokenizer's pattern \"", pattern_,
              "\" ends with a backslash");
    char c = pattern_[position_ + 1];
    DST_CHECK(kUnsupportedEscapes.find(c) == kUnsupportedEscapes.npos && !(c == 'S' && in_class_),
              "the tokenizer's pattern \"", pattern_, "\" uses \\", c, " at byte ", position_,
              ", which is not supported");
    if (c != 's' && c != 'S') return copy(2);
    if (in_class_) {
      result_ += kWhiteSpace;
    } else {
      result_.append(c == 's' ? "[" : "[^").append(kWhiteSpace).append("]");
    }
    position_ += 2;
  }

  void copy(size_t count) {
    result_ += pattern_.substr(position_, count);
    position_ += count;
  }

  std::string_view pattern_;
  size_t position_ = 0;
  bool in_class_ = false;
  size_t class_begin_ = 0;
  std::string result_;
};

}  // namespace

std::string to_pcre2_syntax(std::string_view pattern) { return Translator(pattern).translate(); }

}  // namespace deepseek_train::text
