// Regular expressions of tokenizer.json, matched by PCRE2 as Hugging Face's Oniguruma would.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace deepseek_train::text {

// Bytes [begin, end) of the text searched.
struct Span {
  size_t begin = 0;
  size_t end = 0;
};

// Working memory of a search; one for each thread.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class Regex;
  struct Data;
  std::unique_ptr<Data> data_;
};

// A compiled pattern; immutable and thread-safe.
class Regex {
 public:
  // Throws InvalidArgument naming the pattern and the place for one that does not compile, or that
  // uses what the two engines understand differently (\w, \b, nested classes).
  explicit Regex(std::string_view pattern);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // Replaces `matches` by all matches in `text`, left to right without overlap. `text` must be
  // valid UTF-8. Throws InvalidArgument if the pattern matches the empty string, or Internal if a
  // search passes PCRE2's limits.
  void find_all(std::string_view text, RegexScratch& scratch, std::vector<Span>& matches) const;

 private:
  struct Code;
  std::string pattern_;
  std::unique_ptr<Code> code_;
};

// The pattern in PCRE2's dialect: \s and \S spelled out as Unicode's White_Space (PCRE2's \s also
// takes U+180E).
std::string to_pcre2_syntax(std::string_view pattern);

}  // namespace deepseek_train::text
