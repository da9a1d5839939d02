#include "deepseek_train/tuning/esft.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "tests/support/tiny_llama.h"

namespace deepseek_train::tuning {
namespace {

// Layer 0 dense, layers 1 and 2 with six experts of which a token takes two.
std::unique_ptr<models::Transformer> tiny_mixture() {
  auto config = test_support::tiny_llama_config(17);
  config.architecture = models::Architecture::kDeepseekV2;
  config.tie_word_embeddings = false;
  config.num_hidden_layers = 3;
  config.num_key_value_heads = 2;
  config.mla = models::MlaConfig{
      .kv_lora_rank = 8, .qk_nope_head_dim = 4, .qk_rope_head_dim = 4, .v_head_dim = 8};
  config.moe = models::MoeConfig{.n_routed_experts = 6,
                                 .n_shared_experts = 1,
                                 .num_experts_per_tok = 2,
                                 .moe_intermediate_size = 8,
                                 .first_k_dense_replace = 1};
  config.head_dim = 4;  // the rotated part
  auto model = std::make_unique<models::Transformer>(config);
  model->initialize(3);
  return model;
}

TEST(EsftTest, ScoresOfEachLayerAreSharesOfTokensOrOfGateWeight) {
  auto model = tiny_mixture();
  std::vector<torch::Tensor> samples = {torch::arange(16).view({2, 8}),
                                        torch::arange(9).view({1, 9})};
  std::map<int64_t, std::vector<double>> tokens, gates;
  double tokens_in_all = 0;
  for (const auto& ids : samples) {
    torch::NoGradGuard no_grad;
    models::RoutingRecord routing;
    model->hidden_states(ids, &routing);
    tokens_in_all += static_cast<double>(ids.numel());
    for (int64_t layer : {1, 2})
      for (int64_t expert = 0; expert < 6; ++expert) {
        tokens[layer].resize(6);
        gates[layer].resize(6);
        const auto e = static_cast<size_t>(expert);
        tokens[layer][e] += routing.loads.at(layer)[expert].item<double>();
        gates[layer][e] += routing.gate_weights.at(layer)[expert].item<double>();
      }
  }
  auto by_token = score_experts(*model, samples, expert_score_by_name("token"));
  auto by_gate = score_experts(*model, samples, expert_score_by_name("gate"));
  ASSERT_EQ(by_token.size(), 2u);
  for (int64_t layer : {1, 2}) {
    double gate_sum = 0;
    for (double gate : gates[layer]) gate_sum += gate;
    EXPECT_GT(gate_sum, 0);
    for (size_t e = 0; e < 6; ++e) {
      EXPECT_NEAR(by_token[layer][e], tokens[layer][e] / (2 * tokens_in_all), 1e-9);
      EXPECT_NEAR(by_gate[layer][e], gates[layer][e] / gate_sum, 1e-6);
    }
  }
}

TEST(EsftTest, ExpertsAreTakenUntilTheSumReachesTopP) {
  ExpertScores scores = {{1, {0.1, 0.4, 0.2, 0.3}}, {2, {0.25, 0.25, 0.25, 0.25}}};
  EXPECT_EQ(choose_experts(scores, 0.2).experts.at(1), (std::vector<int64_t>{1}));
  EXPECT_EQ(choose_experts(scores, 0.5).experts.at(1), (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(choose_experts(scores, 0.5).experts.at(2), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(choose_experts(scores, 1).experts.at(1).size(), 4u);
  EXPECT_THROW(choose_experts(scores, 0), InvalidArgument);
  EXPECT_THROW(choose_experts(scores, 1.5), InvalidArgument);
}

TEST(EsftTest, OnlyTheChosenExpertsTrain) {
  auto model = tiny_mixture();
  model->to(at::kBFloat16);
  auto names = train_experts(*model, {.experts = {{1, {4, 0}}, {2, {5}}}});
  EXPECT_EQ(names.size(), 9u);
  for (const auto& item : model->named_parameters()) {
    const auto& name = item.key();
    const bool chosen = name.starts_with("model.layers.1.mlp.experts.0.") ||
                        name.starts_with("model.layers.1.mlp.experts.4.") ||
                        name.starts_with("model.layers.2.mlp.experts.5.");
    EXPECT_EQ(item.value().requires_grad(), chosen) << name;
    EXPECT_EQ(item.value().scalar_type(), chosen ? at::kFloat : at::kBFloat16) << name;
  }
  EXPECT_EQ(train_experts(*model, {.experts = {{1, {}}, {2, {}}}, .shared_experts = true}).size(),
            6u);
}

TEST(EsftTest, DeepSeeksFileIsReadAndWritten) {
  const std::string text =
      R"({"experts":{"1":[4,0],"2":[5]},"shared_experts":false,"non_expert_modules":true})"
      "\n";
  auto config = parse_expert_config(text, "law.json");
  EXPECT_EQ(config.experts.at(1), (std::vector<int64_t>{4, 0}));
  EXPECT_TRUE(config.non_expert_modules);
  EXPECT_EQ(to_json(config), text);
  for (const char* bad : {"[]", "{}", R"({"experts":[1]})", R"({"experts":{"one":[1]}})",
                          R"({"experts":{"1":[2,2]}})", R"({"experts":{"1":"all"}})"})
    EXPECT_THROW(parse_expert_config(bad, "law.json"), DataCorruption) << bad;
}

TEST(EsftTest, AConfigOfAnotherModelIsRefused) {
  auto model = tiny_mixture();
  EXPECT_THROW(train_experts(*model, {.experts = {{1, {0}}}}), InvalidArgument);
  EXPECT_THROW(train_experts(*model, {.experts = {{0, {0}}, {1, {0}}, {2, {0}}}}), InvalidArgument);
  EXPECT_THROW(train_experts(*model, {.experts = {{1, {6}}, {2, {0}}}}), InvalidArgument);
  EXPECT_THROW(train_experts(*model, {.experts = {{1, {}}, {2, {}}}}), InvalidArgument);
  models::Transformer dense(test_support::tiny_llama_config(17));
  EXPECT_THROW(score_experts(dense, {torch::zeros({1, 2}, at::kLong)}, ExpertScore::kTokenShare),
               InvalidArgument);
}

}  // namespace
}  // namespace deepseek_train::tuning
