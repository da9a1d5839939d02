// Cuts text into words: byte-pair merges never cross a word's border.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/text/regex.h"
#include "src/text/tokenizer_model.h"
#include "src/text/word_scanner.h"

namespace deepseek_train::text {

// Working memory of one encode() call. Words that had to be changed are kept in `storage`, so that
// views stay valid.
struct PreTokenizerScratch {
  RegexScratch regex;
  std::vector<Span> matches;
  std::vector<std::string_view> words;
  std::vector<std::string_view> next_words;
  std::deque<std::string> storage;
};

// Immutable and thread-safe.
class PreTokenizer {
 public:
  // Throws InvalidArgument for a pattern that cannot be compiled.
  explicit PreTokenizer(const std::vector<PreTokenizerStep>& steps);

  // The words of `text` (valid UTF-8), in scratch.words; they live as long as `text` and the
  // scratch's storage.
  void split(std::string_view text, PreTokenizerScratch& scratch) const;

 private:
  // One step made ready: what it finds, and what becomes of it.
  struct Step {
    WordScanner scan = nullptr;
    std::optional<Regex> regex;
    std::string literal;
    bool add_prefix_space = false;
    SplitBehavior behavior = SplitBehavior::kIsolated;
    bool invert = false;
  };
  static Step prepare(const PreTokenizerStep& step);
  static Step prepare(const SplitStep& split);
  static void find(const Step& step, std::string_view text, PreTokenizerScratch& scratch);
  static void apply(const Step& step, std::string_view text, PreTokenizerScratch& scratch);

  std::vector<Step> steps_;
};

}  // namespace deepseek_train::text
