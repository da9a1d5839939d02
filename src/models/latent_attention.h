#pragma once

#include "deepseek_train/models/blocks.h"
#include "deepseek_train/models/rms_norm.h"
#include "deepseek_train/ops/linear.h"

namespace deepseek_train::models {

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1). Training and prefill
// expand the latent to keys and values of every head; decoding works on the latent itself (the
// up-projections absorbed into query and output), whose cache is kv_lora_rank + qk_rope_head_dim
// elements a token for all heads together.
class LatentAttention final : public AttentionBlock {
 public:
  explicit LatentAttention(const BlockSite& site);
  torch::Tensor forward(const torch::Tensor& hidden_BTD, const ForwardContext& context) override;
  CacheLayout cache_layout() const override {
    return {1, mla_.kv_lora_rank + mla_.qk_rope_head_dim, 0};
  }
  double softmax_scale() const { return scale_; }

 private:
  torch::Tensor project_query(const torch::Tensor& hidden_BTD, const ForwardContext& context);
  torch::Tensor expanded(const torch::Tensor& query, const torch::Tensor& latent,
                         const torch::Tensor& rotated_key, const ForwardContext& context);
  torch::Tensor absorbed(const torch::Tensor& query, const torch::Tensor& latent_and_key,
                         const ForwardContext& context);

  MlaConfig mla_;
  int64_t heads_, layer_;
  double scale_;
  std::shared_ptr<ops::Linear> q_proj_, q_a_proj_, q_b_proj_, kv_a_proj_, kv_b_proj_, o_proj_;
  std::shared_ptr<RmsNorm> q_a_norm_, kv_a_norm_;
};

}  // namespace deepseek_train::models
