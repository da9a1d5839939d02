#include "deepseek_train/models/generate.h"

#include <algorithm>

#include "deepseek_train/core/error.h"
#include "src/models/token_choice.h"

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

// What has come for each row so far, and whether it goes on.
class Rows {
 public:
  Rows(size_t count, const GenerateOptions& options)
      : results(count), options_(options), ended_(count, false) {}

  // tokens [B, 1] on the CPU.
  void take(const torch::Tensor& tokens) {
    auto ids = tokens.accessor<int64_t, 2>();
    for (size_t row = 0; row < results.size(); ++row)
      if (!ended_[row]) take(row, ids[static_cast<int64_t>(row)][0]);
  }
  bool all_ended() const { return std::find(ended_.begin(), ended_.end(), false) == ended_.end(); }

  std::vector<std::vector<int32_t>> results;

 private:
  void take(size_t row, int64_t token) {
    const auto& eos = options_.eos_token_ids;
    if (std::find(eos.begin(), eos.end(), token) != eos.end()) {
      ended_[row] = true;
      return;
    }
    results[row].push_back(static_cast<int32_t>(token));
    if (options_.on_token) options_.on_token(row, static_cast<int32_t>(token));
    if (!options_.stop_strings.empty()) ended_[row] = has_stop_string(results[row]);
  }

  // A token is at least one byte, so the longest stop string lies within that many last tokens.
  bool has_stop_string(const std::vector<int32_t>& tokens) const {
    size_t longest = 0;
    for (const auto& stop : options_.stop_strings) longest = std::max(longest, stop.size());
    auto tail = std::span(tokens).last(std::min(tokens.size(), longest));
    auto text = options_.tokenizer->decode(tail);
    for (const auto& stop : options_.stop_strings)
      if (text.find(stop) != std::string::npos) return true;
    return false;
  }

  const GenerateOptions& options_;
  std::vector<bool> ended_;
};

void check(const ModelConfig& config, const GenerateOptions& options, int64_t longest_prompt) {
  DST_CHECK(longest_prompt + options.max_new_tokens <= config.max_position_embeddings,
            "the longest prompt has ", longest_prompt, " tokens and ", options.max_new_tokens,
            " more are asked for; the model has ", config.max_position_embeddings, " positions");
  DST_CHECK(options.stop_strings.empty() || options.tokenizer,
            "stop strings need the tokenizer that gives the tokens' texts");
}

}  // namespace

std::vector<std::vector<int32_t>> generate(Transformer& model,
                                           const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerateOptions& options) {
  torch::InferenceMode inference;
  Rows rows(prompts.size(), options);
  if (prompts.empty() || options.max_new_tokens <= 0) return rows.results;
  const auto B = static_cast<int64_t>(prompts.size());
  const auto device = model.lm_head().weight.defined() ? model.lm_head().weight.device()
                                                       : torch::Device(torch::kCPU);
  auto padded = pad(prompts, options.pad_token_id);
  check(model.config(), options, padded.input_ids.size(1));
  TokenChoice choose(options, prompts.size());
  auto cache = model.make_cache(B, padded.input_ids.size(1) + options.max_new_tokens);
  auto lengths = padded.lengths.to(device);
  auto hidden = model.prefill(padded.input_ids.to(device), lengths, cache);
  hidden = hidden.gather(1, (lengths - 1).view({B, 1, 1}).expand({B, 1, hidden.size(2)}));
  for (int64_t step = 1;; ++step) {
    auto tokens = choose(model.logits(hidden));
    rows.take(tokens.cpu());
    if (step == options.max_new_tokens || rows.all_ended()) return rows.results;
    hidden = model.decode(tokens, cache);
  }
}

std::vector<int64_t> end_token_ids(const ModelConfig& config, const text::Tokenizer& tokenizer) {
  auto ids = config.eos_token_ids;
  if (auto eos = tokenizer.eos_id(); eos && std::find(ids.begin(), ids.end(), *eos) == ids.end())
    ids.push_back(*eos);
  return ids;
}

}  // namespace deepseek_train::models
