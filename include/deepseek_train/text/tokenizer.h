// Byte-level BPE tokenizers: GPT-2's scheme as Hugging Face's tokenizer.json describes it and as
// GGUF files carry it (SmolLM2, Llama 3, Qwen 2 and 3, DeepSeek V3 and R1). Ids equal those of
// Hugging Face's tokenizers library.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek_train/core/env.h"

namespace deepseek_train::text {

struct TokenizerModel;

// A vocabulary as a GGUF file holds it, under tokenizer.ggml.*. The index of a token is its id.
struct BpeVocabulary {
  // In the printable alphabet of byte-level BPE: a space is "Ġ".
  std::vector<std::string> tokens;
  // 1 normal, 3 control (special), 4 user-defined, 5 unused, 6 byte. Empty: all normal.
  std::vector<int> token_types;
  // "left right", the most frequent first.
  std::vector<std::string> merges;
  // Which pre-tokenizer: "smollm", "gpt-2", "qwen2", "deepseek-r1-qwen", "llama-bpe" or
  // "deepseek-v3".
  std::string pre;
  std::optional<int32_t> bos_id;
  std::optional<int32_t> eos_id;
  std::optional<int32_t> pad_id;
  // Whether the model was trained with bos_id before every text.
  bool add_bos = false;
  std::string chat_template;
  // Tokens of context; 0 if not known.
  int64_t model_max_length = 0;
};

// The vocabulary of a .tiktoken file (Qwen's, Llama 3's tokenizer.model): ranks in rising order
// without gaps. Merges are all pairs of tokens whose bytes joined are a token, in the order of its
// rank. DataCorruption naming the line for text that is not such a file.
BpeVocabulary parse_tiktoken(std::string_view text, std::string pre);

// Immutable and cheap to copy (copies share the vocabulary). All const methods are thread-safe.
class Tokenizer {
 public:
  // From the text of tokenizer.json and, for the named tokens and the chat template, of
  // tokenizer_config.json. Throws DataCorruption for text that is not such a file, InvalidArgument
  // for a part this library does not know (a WordPiece model, a Metaspace pre-tokenizer), by its
  // name: it never tokenizes approximately.
  static Tokenizer from_json(std::string_view tokenizer_json,
                             std::string_view tokenizer_config_json = {});
  // From tokenizer.json in a Hugging Face folder, with tokenizer_config.json and
  // chat_template.jinja if they exist.
  static Tokenizer from_folder(Env& env, const std::string& folder);
  // From one file: tokenizer.json (with tokenizer_config.json and chat_template.jinja beside it),
  // or NAME.tiktoken, the byte sequences of a vocabulary in base64 with their ranks, one a line.
  // Such a file says neither how text is split nor which special tokens there are: `pre` names the
  // first, as in BpeVocabulary, special tokens it has none. InvalidArgument for a tiktoken file
  // without `pre`, or another file with it.
  static Tokenizer from_file(Env& env, const std::string& path, const std::string& pre = {});
  // Throws InvalidArgument for an unknown `pre`, ids out of range, a token given twice, or a merge
  // of unknown tokens.
  static Tokenizer from_vocabulary(BpeVocabulary vocabulary);

  // Ids of the text; no token is added at either end (see add_bos). Bytes that are not valid UTF-8
  // become their byte tokens, split from the text around them. A byte for which the vocabulary has
  // no token (SmolLM2 lacks 21 that hardly occur) gives no id, as in Hugging Face's library. Linear
  // in the text, n log n in a single long word. With `parse_special` a "<|im_end|>" inside the text
  // becomes that token; without, it is text like any other, as is right for text that strangers
  // write.
  std::vector<int32_t> encode(std::string_view text, bool parse_special = true) const;
  // The bytes that the ids stand for: valid UTF-8 only if the ids end on whole characters. Throws
  // InvalidArgument for an id outside the vocabulary.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;

  // The token as the vocabulary spells it; empty for an id that no token has (some vocabularies
  // have holes).
  const std::string& token(int32_t id) const;
  std::optional<int32_t> id_of(std::string_view token) const;
  // The largest id plus one.
  int64_t vocab_size() const;
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> pad_id() const;
  // Whether texts for this model begin with bos_id().
  bool add_bos() const;
  bool is_special(int32_t id) const;
  // The Jinja source; empty if there is none.
  const std::string& chat_template() const;

  // tokenizer.json, which transformers loads to the same ids. The text depends on the content
  // alone, not on where it came from: reading it again and writing it gives the same bytes. A few
  // MB and about 50 ms.
  std::string to_json() const;
  // tokenizer_config.json for the same folder.
  std::string config_json() const;
  // SHA-256 of to_json(), in hexadecimal: the name of this tokenizer in token stores. Computed anew
  // by each call.
  std::string sha256() const;

 private:
  class Impl;
  explicit Tokenizer(TokenizerModel model);

  std::shared_ptr<const Impl> impl_;
};

}  // namespace deepseek_train::text
