// The pipeline from text to ids: added tokens, normalization, words, byte pairs.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "src/text/added_tokens.h"
#include "src/text/bpe.h"
#include "src/text/pre_tokenizer.h"
#include "src/text/tokenizer_model.h"
#include "src/text/word_cache.h"

namespace deepseek_train::text {

// The stages, built once. Thread-safe: only the cache changes.
struct Pipeline {
  explicit Pipeline(const TokenizerModel& model);

  AddedTokenFinder in_original;
  AddedTokenFinder in_normalized;
  bool nfc;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  mutable WordCache words;
};

// One pass through the pipeline, with its working memory. Used once, by one thread.
class Encoder {
 public:
  Encoder(const Pipeline& pipeline, bool parse_special)
      : pipeline_(pipeline), parse_special_(parse_special) {}

  std::vector<int32_t> encode(std::string_view text);

 private:
  void encode_utf8(std::string_view text);
  void encode_normalized(std::string_view text);
  void encode_word(std::string_view word);
  // The result lives as long as this object.
  std::string_view normalize(std::string_view text);

  const Pipeline& pipeline_;
  bool parse_special_;
  PreTokenizerScratch scratch_;
  std::vector<int32_t> ids_;
};

}  // namespace deepseek_train::text
