// The blocks of Llama and Qwen: grouped-query attention and the SwiGLU MLP.
#pragma once

#include "deepseek_train/models/blocks.h"
#include "deepseek_train/models/rms_norm.h"
#include "deepseek_train/ops/linear.h"
#include "src/models/grouped_experts.h"

namespace deepseek_train::models {

// Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245), with the biases, the norms of q
// and k and the sliding window that the config asks for.
class GroupedQueryAttention final : public AttentionBlock {
 public:
  explicit GroupedQueryAttention(const BlockSite& site);
  torch::Tensor forward(const torch::Tensor& hidden_BTD, const ForwardContext& context) override;
  CacheLayout cache_layout() const override { return {kv_heads_, head_dim_, head_dim_}; }

 private:
  int64_t head_dim_, kv_heads_, layer_;
  bool window_;
  std::shared_ptr<ops::Linear> q_proj_, k_proj_, v_proj_, o_proj_;
  std::shared_ptr<RmsNorm> q_norm_, k_norm_;  // null without qk_norm
};

// down(silu(gate(x)) * up(x)) (Shazeer 2020, arXiv 2002.05202).
class SwiGluMlp final : public MlpBlock {
 public:
  SwiGluMlp(const BlockSite& site, int64_t intermediate_size);
  torch::Tensor forward(const torch::Tensor& hidden, Numerics numerics);
  torch::Tensor forward(const torch::Tensor& hidden, const ForwardContext& context) override {
    return forward(hidden, context.numerics);
  }
  // The three weights, where they are all that there is: no bias, and no other method (quantized,
  // adapted) on any of them. Else nullopt.
  std::optional<ExpertWeights> plain_weights() const;

 private:
  std::shared_ptr<ops::Linear> gate_proj_, up_proj_, down_proj_;
};

}  // namespace deepseek_train::models
