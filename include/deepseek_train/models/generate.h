// Text from a model, token by token.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "deepseek_train/models/transformer.h"
#include "deepseek_train/text/tokenizer.h"

namespace deepseek_train::models {

struct GenerateOptions {
  int64_t max_new_tokens = 64;
  // A row ends with any of these, which is not part of the result; none: with max_new_tokens.
  std::vector<int64_t> eos_token_ids;
  int64_t pad_token_id = 0;
  // 0: the most probable token (equal logits: the lowest id). Else tokens are drawn from
  // softmax(logits / temperature), cut to the fewest that together have top_p (Holtzman et al.
  // 2019, arXiv 1904.09751).
  double temperature = 0;
  double top_p = 1;
  // Row r draws from a generator seeded with seed + r, so that its text does not depend on the
  // rows beside it.
  uint64_t seed = 0;
  // A row ends with the token that completes one of these texts; they need `tokenizer`.
  std::vector<std::string> stop_strings;
  const text::Tokenizer* tokenizer = nullptr;
  // Called with (row, token) as tokens come; empty for none.
  std::function<void(size_t row, int32_t token)> on_token;
};

// Continuation of each prompt (lengths may differ; none may be empty). One prefill over all rows,
// then one pass a token for the whole batch; rows that ended are carried along until all have.
// Throws InvalidArgument for options out of range, and when prompt and max_new_tokens exceed the
// model's positions.
std::vector<std::vector<int32_t>> generate(Transformer& model,
                                           const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerateOptions& options);

// The tokens that end a text: the config's and the tokenizer's.
std::vector<int64_t> end_token_ids(const ModelConfig& config, const text::Tokenizer& tokenizer);

}  // namespace deepseek_train::models
