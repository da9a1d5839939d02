// Text from a model, token by token.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "deepseek_train/models/llama.h"

namespace deepseek_train::models {

struct GenerateOptions {
  int64_t max_new_tokens = 64;
  // Generation of a row ends with this token, which is not part of the result; none runs to
  // max_new_tokens.
  std::optional<int64_t> eos_token_id;
  int64_t pad_token_id = 0;
  // Called with (row, token) as tokens come; empty for none.
  std::function<void(size_t row, int32_t token)> on_token;
};

// Greedy continuation of each prompt (lengths may differ; none may be empty). One prefill over all
// rows, then one pass a token for the whole batch; rows that ended are carried along until all
// have. Equal logits: the lowest id wins.
std::vector<std::vector<int32_t>> generate(LlamaModel& model,
                                           const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerateOptions& options);

}  // namespace deepseek_train::models
