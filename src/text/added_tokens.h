// Finds added tokens ("<|im_end|>") in text, before anything else is done to it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "src/text/tokenizer_model.h"

namespace deepseek_train::text {

// A stretch of text, or an added token that was found.
struct Segment {
  std::string_view text;
  std::optional<int32_t> id;
};

// Leftmost match first, the longest of those that begin there: the order of Hugging Face's library.
// Immutable and thread-safe. Time: the text's length times the longest token's, at worst.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  // Appends the segments of `text`. Without `parse_special`, special tokens stay text.
  void split(std::string_view text, bool parse_special, std::vector<Segment>& segments) const;

 private:
  // A node of a trie over bytes.
  struct Node {
    std::map<unsigned char, size_t> children;
    int token = -1;  // index of the token that ends here
  };
  void insert(int token);
  // The longest token that begins at `position`; nullptr if none does.
  const AddedToken* match_at(std::string_view text, size_t position) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> trie_;
  std::array<bool, 256> begins_token_{};
};

}  // namespace deepseek_train::text
