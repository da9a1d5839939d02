#include "deepseek_train/models/generate.h"

#include <algorithm>

#include "deepseek_train/core/error.h"

namespace deepseek_train::models {
namespace {

struct PaddedPrompts {
  torch::Tensor input_ids;  // [B, T]
  torch::Tensor lengths;    // [B]
};

PaddedPrompts pad(const std::vector<std::vector<int32_t>>& prompts, int64_t pad_token_id) {
  size_t longest = 0;
  for (const auto& prompt : prompts) {
    DST_CHECK(!prompt.empty(), "a prompt is empty; generation needs at least one token");
    longest = std::max(longest, prompt.size());
  }
  const auto B = static_cast<int64_t>(prompts.size());
  PaddedPrompts padded{torch::full({B, static_cast<int64_t>(longest)}, pad_token_id, at::kLong),
                       torch::empty({B}, at::kLong)};
  auto ids = padded.input_ids.accessor<int64_t, 2>();
  for (size_t b = 0; b < prompts.size(); ++b) {
    auto row = ids[static_cast<int64_t>(b)];
    for (size_t t = 0; t < prompts[b].size(); ++t) row[static_cast<int64_t>(t)] = prompts[b][t];
    padded.lengths[static_cast<int64_t>(b)] = static_cast<int64_t>(prompts[b].size());
  }
  return padded;
}

}  // namespace

std::vector<std::vector<int32_t>> generate(LlamaModel& model,
                                           const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerateOptions& options) {
  torch::InferenceMode inference;
  std::vector<std::vector<int32_t>> results(prompts.size());
  if (prompts.empty() || options.max_new_tokens <= 0) return results;
  const auto B = static_cast<int64_t>(prompts.size());
  auto [input_ids, lengths] = pad(prompts, options.pad_token_id);
  const int64_t capacity = input_ids.size(1) + options.max_new_tokens;
  DST_CHECK(capacity <= model.config().max_position_embeddings, "the longest prompt has ",
            input_ids.size(1), " tokens and ", options.max_new_tokens,
            " more are asked for; the model has ", model.config().max_position_embeddings,
            " positions");
  KvCache cache(model.config(), B, capacity, model.compute_dtype());
  auto hidden = model.prefill(input_ids, lengths, cache);
  auto last = (lengths - 1).view({B, 1, 1}).expand({B, 1, hidden.size(2)});
  hidden = hidden.gather(1, last);

  std::vector<bool> ended(prompts.size(), false);
  for (int64_t step = 0; step < options.max_new_tokens; ++step) {
    auto tokens = model.logits(hidden).argmax(-1);  // [B, 1]
    auto ids = tokens.accessor<int64_t, 2>();
    for (size_t b = 0; b < prompts.size(); ++b) {
      const int64_t token = ids[static_cast<int64_t>(b)][0];
      if (ended[b] || (options.eos_token_id && token == *options.eos_token_id)) {
        ended[b] = true;
        continue;
      }
      results[b].push_back(static_cast<int32_t>(token));
      if (options.on_token) options.on_token(b, static_cast<int32_t>(token));
    }
    if (step + 1 == options.max_new_tokens ||
        std::find(ended.begin(), ended.end(), false) == ended.end())
      break;
    hidden = model.decode(tokens, cache);
  }
  return results;
}

}  // namespace deepseek_train::models
