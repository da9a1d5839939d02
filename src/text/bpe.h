// Byte-pair encoding of one word: its bytes are tokens at first, then the earliest-learned pair
// merges, again and again.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "src/text/merge_table.h"
#include "src/text/tokenizer_model.h"

namespace deepseek_train::text {

// A token within the word. Links are indices into the word's symbols; -1 at the ends.
struct BpeSymbol {
  int32_t id = -1;
  int32_t previous = -1;
  int32_t next = -1;
};

// Lets a map of strings be asked with a view.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

// Immutable and thread-safe.
class Bpe {
 public:
  // Throws InvalidArgument for a merge whose parts or result are no tokens of the vocabulary.
  explicit Bpe(const TokenizerModel& model);

  // Appends the ids of the word. Bytes without a token are left out. O(n log n) for n bytes.
  void encode(std::string_view word, std::vector<int32_t>& ids) const;

 private:
  void merge_short(std::string_view word, std::vector<int32_t>& ids) const;
  void merge_long(std::vector<int32_t>& ids, size_t begin) const;

  std::array<int32_t, 256> id_of_byte_;
  // Of two bytes' tokens, by 256 * left byte + right byte: most questions of a new word are these.
  std::vector<Merge> byte_merges_;
  MergeTable merges_;
  // By the bytes that the token spells; filled only where a word that is a token is not merged.
  std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>> whole_words_;
};

}  // namespace deepseek_train::text
