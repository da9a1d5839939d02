#include "src/text/encoder.h"

#include "src/text/unicode.h"

namespace deepseek_train::text {
namespace {

std::vector<AddedToken> added_tokens_where(const TokenizerModel& model, bool normalized) {
  std::vector<AddedToken> tokens;
  for (const auto& token : model.added_tokens)
    if (token.normalized == normalized) tokens.push_back(token);
  // A normalized token is found as the normalizer leaves it.
  if (normalized && model.nfc)
    for (auto& token : tokens) token.content = to_nfc(token.content);
  return tokens;
}

}  // namespace

Pipeline::Pipeline(const TokenizerModel& model)
    : in_original(added_tokens_where(model, false)),
      in_normalized(added_tokens_where(model, true)),
      nfc(model.nfc),
      pre_tokenizer(model.pre_tokenizer),
      bpe(model) {}

std::vector<int32_t> Encoder::encode(std::string_view text) {
  ids_.reserve(text.size() / 3);
  for (const auto& run : split_utf8_runs(text)) {
    if (run.valid) {
      encode_utf8(run.text);
    } else {
      pipeline_.bpe.encode(run.text, ids_);
    }
  }
  return std::move(ids_);
}

void Encoder::encode_utf8(std::string_view text) {
  std::vector<Segment> segments;
  pipeline_.in_original.split(text, parse_special_, segments);
  for (const auto& segment : segments) {
    if (segment.id) {
      ids_.push_back(*segment.id);
    } else {
      encode_normalized(normalize(segment.text));
    }
  }
}

std::string_view Encoder::normalize(std::string_view text) {
  if (!pipeline_.nfc || is_nfc_inert(text)) return text;
  return scratch_.storage.emplace_back(to_nfc(text));
}

void Encoder::encode_normalized(std::string_view text) {
  std::vector<Segment> segments;
  pipeline_.in_normalized.split(text, parse_special_, segments);
  for (const auto& segment : segments) {
    if (segment.id) {
      ids_.push_back(*segment.id);
      continue;
    }
    pipeline_.pre_tokenizer.split(segment.text, scratch_);
    for (std::string_view word : scratch_.words) encode_word(word);
  }
}

void Encoder::encode_word(std::string_view word) {
  if (word.size() > WordCache::kMaxBytes) return pipeline_.bpe.encode(word, ids_);
  if (pipeline_.words.find(word, ids_)) return;
  const size_t begin = ids_.size();
  pipeline_.bpe.encode(word, ids_);
  pipeline_.words.insert(word, std::span<const int32_t>(ids_).subspan(begin));
}

}  // namespace deepseek_train::text
