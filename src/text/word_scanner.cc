#include "src/text/word_scanner.h"

#include "src/text/char_classes.h"
#include "src/text/tokenizer_patterns.h"

namespace deepseek_train::text {
namespace {

// A character of valid UTF-8 with its class; of an empty rest, class 0 and length 0.
struct Char {
  char32_t code_point = 0;
  uint8_t length = 0;
  uint8_t classes = 0;

  bool is(int wanted) const { return (classes & wanted) != 0; }
};

class Cursor {
 public:
  Cursor(std::string_view text, size_t position)
      : text_(text), position_(position), classes_(CharClasses::get()) {}

  size_t position() const { return position_; }
  bool at_end() const { return position_ >= text_.size(); }

  Char peek() const { return at(position_); }
  // The one after `current`, which is at the cursor.
  Char after(const Char& current) const { return at(position_ + current.length); }
  void take(const Char& current) { position_ += current.length; }

  // Takes all characters of any of the classes; of none of them.
  void take_while(int wanted) {
    for (Char c = peek(); c.is(wanted); c = peek()) take(c);
  }
  void take_until(int unwanted) {
    for (Char c = peek(); c.length > 0 && !c.is(unwanted); c = peek()) take(c);
  }

 private:
  Char at(size_t position) const {
    if (position >= text_.size()) return {};
    auto byte = [&](size_t i) { return static_cast<unsigned char>(text_[position + i]); };
    char32_t c = byte(0);
    uint8_t length = 1;
    if (c >= 0xf0) {
      c = (c & 7) << 18 | (byte(1) & 0x3fu) << 12 | (byte(2) & 0x3fu) << 6 | (byte(3) & 0x3fu);
      length = 4;
    } else if (c >= 0xe0) {
      c = (c & 15) << 12 | (byte(1) & 0x3fu) << 6 | (byte(2) & 0x3fu);
      length = 3;
    } else if (c >= 0x80) {
      c = (c & 31) << 6 | (byte(1) & 0x3fu);
      length = 2;
    }
    return {c, length, classes_.of(c)};
  }

  std::string_view text_;
  size_t position_;
  const CharClasses& classes_;
};

// \s+(?!\S)|\s+ : a run of white space without its last character if something follows it.
// With `line_ends` before it \s*[\r\n]+ : up to the run's last line end, if there is one.
size_t scan_white_space(Cursor cursor, bool line_ends) {
  const size_t begin = cursor.position();
  size_t last = begin, after_line_end = begin;
  for (Char c = cursor.peek(); c.is(kSpace); c = cursor.peek()) {
    last = cursor.position();
    cursor.take(c);
    if (c.is(kLineEnd)) after_line_end = cursor.position();
  }
  if (line_ends && after_line_end > begin) return after_line_end;
  if (cursor.at_end() || last == begin) return cursor.position();
  return last;
}

// 's|'t|'re|'ve|'m|'ll|'d : its end, or 0. Without case U+017F is an s.
size_t scan_contraction(std::string_view text, size_t begin, bool ignore_case) {
  if (text[begin] != '\'' || begin + 1 >= text.size()) return 0;
  const auto lower = [&](size_t i) {
    const char c = i < text.size() ? text[i] : '\0';
    return ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  };
  const char first = lower(begin + 1), second = lower(begin + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return begin + 2;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
      (first == 'l' && second == 'l'))
    return begin + 3;
  const bool long_s = ignore_case && text.substr(begin + 1).starts_with("\u017f");
  return long_s ? begin + 3 : 0;
}

size_t scan_gpt2(std::string_view text, size_t begin) {
  if (size_t end = scan_contraction(text, begin, false)) return end;
  Cursor cursor(text, begin);
  Char c = cursor.peek();
  if (c.code_point == ' ') {
    const Char next = cursor.after(c);
    if (next.length == 0 || next.is(kSpace)) return scan_white_space(cursor, false);
    cursor.take(c);
    c = next;
  } else if (c.is(kSpace)) {
    return scan_white_space(cursor, false);
  }
  if (c.is(kLetter)) {
    cursor.take_while(kLetter);
  } else if (c.is(kNumber)) {
    cursor.take_while(kNumber);
  } else {
    cursor.take_until(kSpace | kLetter | kNumber);
  }
  return cursor.position();
}

// Llama 3's and Qwen's, which differ in how many digits make a word.
template <int kMaxDigits>
size_t scan_llama3(std::string_view text, size_t begin) {
  if (size_t end = scan_contraction(text, begin, true)) return end;
  Cursor cursor(text, begin);
  const Char c = cursor.peek();
  const Char next = c.is(kLetter) ? Char{} : cursor.after(c);
  if (c.is(kLetter) || (next.is(kLetter) && !c.is(kNumber | kLineEnd))) {
    cursor.take(c);
    cursor.take_while(kLetter);
    return cursor.position();
  }
  if (c.is(kNumber)) {
    for (int i = 0; i < kMaxDigits && cursor.peek().is(kNumber); ++i) cursor.take(cursor.peek());
    return cursor.position();
  }
  const bool space_first =
      c.code_point == ' ' && next.length > 0 && !next.is(kSpace | kLetter | kNumber);
  if (c.is(kSpace) && !space_first) return scan_white_space(cursor, true);
  cursor.take(c);
  cursor.take_until(kSpace | kLetter | kNumber);
  cursor.take_while(kLineEnd);
  return cursor.position();
}

bool is_ascii_letter(const Char& c) {
  return (c.code_point >= 'a' && c.code_point <= 'z') ||
         (c.code_point >= 'A' && c.code_point <= 'Z');
}

bool is_ascii_punctuation(const Char& c) {
  return c.code_point < 0x80 && c.is(kPunctuation | kSymbol);
}

// A match of DeepSeek's third pattern at the cursor, or its position if none begins there.
size_t match_deepseek(Cursor cursor) {
  const Char c = cursor.peek();
  if (c.is(kLetter | kMark)) {
    cursor.take_while(kLetter | kMark);
    return cursor.position();
  }
  const Char next = cursor.after(c);
  if (is_ascii_punctuation(c) && is_ascii_letter(next)) {
    for (cursor.take(c); is_ascii_letter(cursor.peek());) cursor.take(cursor.peek());
    return cursor.position();
  }
  if (next.is(kLetter | kMark) && !c.is(kLineEnd | kPunctuation | kSymbol)) {
    cursor.take(c);
    cursor.take_while(kLetter | kMark);
    return cursor.position();
  }
  if (c.is(kPunctuation | kSymbol) || (c.code_point == ' ' && next.is(kPunctuation | kSymbol))) {
    cursor.take(c);
    cursor.take_while(kPunctuation | kSymbol);
    cursor.take_while(kLineEnd);
    return cursor.position();
  }
  return c.is(kSpace) ? scan_white_space(cursor, true) : cursor.position();
}

size_t scan_deepseek(std::string_view text, size_t begin) {
  Cursor cursor(text, begin);
  if (size_t end = match_deepseek(cursor); end > begin) return end;
  do cursor.take(cursor.peek());
  while (!cursor.at_end() && match_deepseek(cursor) == cursor.position());
  return cursor.position();
}

template <int kMaxDigits>
size_t scan_digits(std::string_view text, size_t begin) {
  Cursor cursor(text, begin);
  if (!cursor.peek().is(kNumber)) {
    cursor.take_until(kNumber);
  } else {
    for (int i = 0; i < kMaxDigits && cursor.peek().is(kNumber); ++i) cursor.take(cursor.peek());
  }
  return cursor.position();
}

size_t scan_digit_runs(std::string_view text, size_t begin) {
  Cursor cursor(text, begin);
  if (cursor.peek().is(kNumber)) {
    cursor.take_while(kNumber);
  } else {
    cursor.take_until(kNumber);
  }
  return cursor.position();
}

bool is_chinese(const Char& c) {
  return (c.code_point >= 0x4e00 && c.code_point <= 0x9fa5) ||
         (c.code_point >= 0x3040 && c.code_point <= 0x30ff);
}

size_t scan_chinese(std::string_view text, size_t begin) {
  Cursor cursor(text, begin);
  const bool chinese = is_chinese(cursor.peek());
  for (Char c = cursor.peek(); c.length > 0 && is_chinese(c) == chinese; c = cursor.peek())
    cursor.take(c);
  return cursor.position();
}

struct KnownPattern {
  std::string_view pattern;
  WordScanner scanner;
};

constexpr KnownPattern kKnownPatterns[] = {
    {kGpt2Pattern, scan_gpt2},
    {kLlama3Pattern, scan_llama3<3>},
    {kQwen2Pattern, scan_llama3<1>},
    {kDigitGroupsPattern, scan_digits<3>},
    {kChinesePattern, scan_chinese},
    {kDeepSeekV3Pattern, scan_deepseek},
    {kDeepSeekV3PatternAsPublished, scan_deepseek},
};

}  // namespace

WordScanner find_word_scanner(std::string_view pattern) {
  for (const auto& known : kKnownPatterns)
    if (known.pattern == pattern) return known.scanner;
  return nullptr;
}

WordScanner digits_scanner(bool individual) {
  return individual ? scan_digits<1> : scan_digit_runs;
}

}  // namespace deepseek_train::text
