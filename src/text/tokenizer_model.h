// A tokenizer as plain data: what tokenizer.json says, checked, before anything is built from it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace deepseek_train::text {

// What becomes of the matches of a pattern that splits text (Hugging Face's
// SplitDelimiterBehavior).
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// Splits by a pattern; with `invert` the text between the matches counts as the matches.
struct SplitStep {
  std::string pattern;
  bool is_regex = true;  // else the pattern is found literally
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
};
// Splits numerals (Unicode N*) from the rest; one by one, or run by run.
struct DigitsStep {
  bool individual = false;
};
// The step into bytes, always last. With the regex it first splits as GPT-2 does.
struct ByteLevelStep {
  bool add_prefix_space = false;
  bool use_regex = true;
};
using PreTokenizerStep = std::variant<SplitStep, DigitsStep, ByteLevelStep>;

// A token found in the text as it stands, before any splitting.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;   // found in the normalized text, not in the original
  bool single_word = false;  // only between characters that are no part of words
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;
};

struct TokenizerModel {
  // By id; an empty string is an id without token. Added tokens are here too.
  std::vector<std::string> tokens;
  // By id: whether the token is in the BPE vocabulary. An added token may be there too, or stand
  // beside it.
  std::vector<bool> in_bpe_vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;
  bool ignore_merges = false;  // a word that is a token is not merged up to it, it is it
  bool nfc = false;
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::vector<AddedToken> added_tokens;  // by id

  // From tokenizer_config.json or the GGUF's metadata.
  std::optional<int32_t> bos_id;
  std::optional<int32_t> eos_id;
  std::optional<int32_t> pad_id;
  bool add_bos = false;
  std::string chat_template;
  int64_t model_max_length = 0;
};

}  // namespace deepseek_train::text
