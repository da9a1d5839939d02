// The published models' shapes, on the meta device: parameter counts and tensor names without a
// byte of weights. Values from the models' config.json; counts as published (1.78B, 15.7B, 671B).
#include <gtest/gtest.h>

#include <set>

#include "deepseek_train/models/transformer.h"

namespace deepseek_train::models {
namespace {

int64_t count(const Transformer& model) {
  int64_t total = 0;
  for (const auto& parameter : model.parameters()) total += parameter.numel();
  return total;
}

size_t num_tensors(const Transformer& model) {
  return model.named_parameters().size() + model.named_buffers().size();
}

TEST(RealShapesTest, DeepSeekR1DistillQwen1_5B) {
  Transformer model(model_config_from_json(R"({"model_type": "qwen2", "vocab_size": 151936,
      "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
      "num_attention_heads": 12, "num_key_value_heads": 2, "max_position_embeddings": 131072,
      "rms_norm_eps": 1e-06, "rope_theta": 10000, "tie_word_embeddings": false,
      "use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 21})"),
                    {}, torch::kMeta);
  EXPECT_EQ(count(model), 1777088000);
  EXPECT_EQ(num_tensors(model), 339u);
}

TEST(RealShapesTest, DeepSeekV2Lite) {
  Transformer model(model_config_from_json(R"({"model_type": "deepseek_v2", "vocab_size": 102400,
      "hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408,
      "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16,
      "n_shared_experts": 2, "n_routed_experts": 64, "routed_scaling_factor": 1.0,
      "kv_lora_rank": 512, "q_lora_rank": null, "qk_rope_head_dim": 64, "v_head_dim": 128,
      "qk_nope_head_dim": 128, "topk_method": "greedy", "n_group": 1, "topk_group": 1,
      "num_experts_per_tok": 6, "moe_layer_freq": 1, "first_k_dense_replace": 1,
      "norm_topk_prob": false, "scoring_func": "softmax", "aux_loss_alpha": 0.001,
      "seq_aux": true, "max_position_embeddings": 163840, "rms_norm_eps": 1e-06,
      "rope_theta": 10000, "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40,
      "mscale": 0.707, "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096,
      "type": "yarn"}, "tie_word_embeddings": false})"),
                    {}, torch::kMeta);
  EXPECT_EQ(count(model), 15706484224);
  EXPECT_EQ(num_tensors(model), 5291u);
}

constexpr const char* kV3 = R"({"model_type": "deepseek_v3", "vocab_size": 129280,
    "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
    "num_hidden_layers": 61, "num_nextn_predict_layers": %d, "num_attention_heads": 128,
    "num_key_value_heads": 128, "n_shared_experts": 1, "n_routed_experts": 256,
    "routed_scaling_factor": 2.5, "kv_lora_rank": 512, "q_lora_rank": 1536,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
    "topk_method": "noaux_tc", "n_group": 8, "topk_group": 4, "num_experts_per_tok": 8,
    "moe_layer_freq": 1, "first_k_dense_replace": 3, "norm_topk_prob": true,
    "scoring_func": "sigmoid", "max_position_embeddings": 163840, "rms_norm_eps": 1e-06,
    "rope_theta": 10000, "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40,
    "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096,
    "type": "yarn"}, "tie_word_embeddings": false})";

std::string v3(int mtp_layers) {
  std::string text = kV3;
  return text.replace(text.find("%d"), 2, std::to_string(mtp_layers));
}

TEST(RealShapesTest, DeepSeekV3) {
  Transformer model(model_config_from_json(v3(0)), {}, torch::kMeta);
  EXPECT_EQ(count(model), 671026404352);
  EXPECT_EQ(num_tensors(model), 45395u);
}

TEST(RealShapesTest, DeepSeekV3WithMultiTokenPrediction) {
  Transformer model(model_config_from_json(v3(1)), {}, torch::kMeta);
  // The checkpoint has two tensors more: its copies of the embedding and the output projection.
  EXPECT_EQ(num_tensors(model), 46183u - 2);
}

TEST(RealShapesTest, LatentCacheOfDeepSeekV3Takes1152BytesATokenAndLayer) {
  auto config = model_config_from_json(v3(0));
  Transformer model(config, {}, torch::kMeta);
  model.set_compute_dtype(at::kBFloat16);
  EXPECT_EQ(model.make_cache(2, 100).bytes_per_token(), 1152 * 61);
}

}  // namespace
}  // namespace deepseek_train::models
