// The shape of a DeepSeek-V3 that a test runs in milliseconds: one dense layer, two with experts,
// and one for multi-token prediction.
#pragma once

#include "deepseek_train/models/transformer.h"

namespace deepseek_train::test_support {

inline models::ModelConfig tiny_deepseek_config(int64_t vocab_size) {
  models::ModelConfig config;
  config.architecture = models::Architecture::kDeepseekV3;
  config.vocab_size = vocab_size;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.num_hidden_layers = 3;
  config.num_attention_heads = config.num_key_value_heads = 2;
  config.head_dim = 4;
  config.max_position_embeddings = 64;
  config.rms_norm_eps = 1e-6;
  config.rope.rope_theta = 10000;
  config.mla = models::MlaConfig{.q_lora_rank = 8,
                                 .kv_lora_rank = 8,
                                 .qk_nope_head_dim = 4,
                                 .qk_rope_head_dim = 4,
                                 .v_head_dim = 6};
  config.moe = models::MoeConfig{.router = models::RouterKind::kSigmoidBiased,
                                 .n_routed_experts = 8,
                                 .n_shared_experts = 1,
                                 .num_experts_per_tok = 3,
                                 .moe_intermediate_size = 12,
                                 .first_k_dense_replace = 1,
                                 .n_group = 4,
                                 .topk_group = 2,
                                 .norm_topk_prob = true,
                                 .routed_scaling_factor = 2.5};
  config.num_nextn_predict_layers = 1;
  return config;
}

// Normal(0, std) matrices: with the usual 0.02, so small a model would hardly tell tokens apart.
inline void initialize_widely(models::Transformer& model, uint64_t seed, double std = 0.4) {
  model.initialize(seed);
  torch::NoGradGuard no_grad;
  for (auto& parameter : model.parameters())
    if (parameter.dim() == 2) parameter.mul_(std / 0.02);
}

}  // namespace deepseek_train::test_support
