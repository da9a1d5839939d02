#include "deepseek_train/models/generate.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "tests/support/tiny_llama.h"

namespace deepseek_train::models {
namespace {

std::shared_ptr<Transformer> tiny_model(bool tied = true) {
  auto config = test_support::tiny_llama_config(/*vocab_size=*/97);
  config.tie_word_embeddings = tied;
  auto model = std::make_shared<Transformer>(config);
  model->initialize(/*seed=*/7);
  // Larger weights than at initialisation, so that greedy choices are not near-ties.
  torch::NoGradGuard no_grad;
  for (auto& parameter : model->parameters())
    if (parameter.dim() == 2) parameter.mul_(10);
  return model;
}

// One token at a time by a full forward pass over everything so far: no cache, no padding.
std::vector<int32_t> naive_greedy(Transformer& model, std::vector<int32_t> tokens, int64_t count) {
  torch::InferenceMode inference;
  std::vector<int32_t> result;
  for (int64_t i = 0; i < count; ++i) {
    auto ids = torch::tensor(std::vector<int64_t>(tokens.begin(), tokens.end())).unsqueeze(0);
    auto next = model.logits(model.hidden_states(ids).slice(1, -1)).argmax(-1).item<int64_t>();
    tokens.push_back(static_cast<int32_t>(next));
    result.push_back(static_cast<int32_t>(next));
  }
  return result;
}

TEST(GenerateTest, BatchOfUnequalPromptsEqualsTheNaiveLoop) {
  for (bool tied : {true, false}) {
    auto model = tiny_model(tied);
    std::vector<std::vector<int32_t>> prompts = {
        {5}, {1, 2, 3, 4, 5, 6, 7, 8, 9}, {90, 3, 17}, {44, 44}};
    auto results = generate(*model, prompts, {.max_new_tokens = 12});
    for (size_t i = 0; i < prompts.size(); ++i)
      EXPECT_EQ(results[i], naive_greedy(*model, prompts[i], 12))
          << "prompt " << i << " tied " << tied;
  }
}

TEST(GenerateTest, EndsAtEosAndLeavesItOut) {
  auto model = tiny_model();
  std::vector<int32_t> prompt = {1, 2, 3};
  auto whole = naive_greedy(*model, prompt, 10);
  auto position = std::find(whole.begin(), whole.end(), whole[4]) - whole.begin();
  auto results = generate(*model, {prompt}, {.max_new_tokens = 10, .eos_token_ids = {whole[4]}});
  EXPECT_EQ(results[0], std::vector<int32_t>(whole.begin(), whole.begin() + position));
}

TEST(GenerateTest, RefusesEmptyPromptsAndTooFewPositions) {
  auto model = tiny_model();
  EXPECT_THROW(generate(*model, {{}}, {}), InvalidArgument);
  EXPECT_THROW(generate(*model, {{1, 2}}, {.max_new_tokens = 63}), InvalidArgument);
}

TEST(TransformerTest, RightPaddingDoesNotChangeEarlierPositions) {
  torch::InferenceMode inference;
  auto model = tiny_model();
  auto ids = torch::arange(1, 11, at::kLong).unsqueeze(0);
  auto padded = torch::cat({ids, torch::zeros({1, 6}, at::kLong)}, 1);
  auto alone = model->hidden_states(ids), together = model->hidden_states(padded).slice(1, 0, 10);
  EXPECT_LT((alone - together).abs().max().item<float>(), 1e-5);
}

TEST(TransformerTest, ReferenceAndFastNumericsAgree) {
  torch::InferenceMode inference;
  auto model = tiny_model();
  auto ids = torch::arange(0, 40, at::kLong).view({2, 20});
  auto fast = model->logits(model->hidden_states(ids));
  model->set_numerics(Numerics::kReference);
  auto reference = model->logits(model->hidden_states(ids));
  EXPECT_LT((fast - reference).abs().max().item<float>(), 1e-4);
}

TEST(TransformerTest, TiedWeightsAreOneParameter) {
  auto count = [](bool tied) { return tiny_model(tied)->parameters().size(); };
  EXPECT_EQ(count(true) + 1, count(false));
}

}  // namespace
}  // namespace deepseek_train::models
