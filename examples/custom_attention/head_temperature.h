// An attention of one's own: grouped-query attention in which every head learns how sharply it
// looks. At the start it computes what the model's own attention does.
#pragma once

#include <cmath>

#include "deepseek_train/models/blocks.h"
#include "deepseek_train/ops/linear.h"

namespace courier {

namespace models = deepseek_train::models;
namespace ops = deepseek_train::ops;

class HeadTemperature final : public models::AttentionBlock {
 public:
  // Names below "self_attn." are the checkpoint's, so that its weights are found; log_temperature
  // is new. ops::Linear rather than torch::nn::Linear: then quantization sees the layers.
  explicit HeadTemperature(const models::BlockSite& site)
      : head_dim_(site.config.head_dim),
        kv_heads_(site.config.num_key_value_heads),
        layer_(site.layer) {
    const auto hidden = site.config.hidden_size, heads = site.config.num_attention_heads;
    auto linear = [&](const char* name, int64_t in, int64_t out) {
      return register_module(
          name, std::make_shared<ops::Linear>(ops::LinearOptions{in, out, false, site.device}));
    };
    q_proj_ = linear("q_proj", hidden, heads * head_dim_);
    k_proj_ = linear("k_proj", hidden, kv_heads_ * head_dim_);
    v_proj_ = linear("v_proj", hidden, kv_heads_ * head_dim_);
    o_proj_ = linear("o_proj", heads * head_dim_, hidden);
    log_temperature_ =
        register_parameter("log_temperature", torch::zeros({heads, 1, 1}, site.device));
  }

  torch::Tensor forward(const torch::Tensor& hidden_BTD,
                        const models::ForwardContext& context) override {
    auto heads = [&](ops::Linear& projection) {
      return projection.forward(hidden_BTD).unflatten(-1, {-1, head_dim_}).transpose(1, 2);
    };
    auto query = models::rotate_half_split(heads(*q_proj_), context);
    auto key = models::rotate_half_split(heads(*k_proj_), context);
    query = query * (-log_temperature_).exp().to(query.scalar_type());
    const double scale = 1 / std::sqrt(static_cast<double>(head_dim_));
    return o_proj_->forward(
        models::attend(query, key, heads(*v_proj_), layer_, context, {.scale = scale}));
  }

  models::CacheLayout cache_layout() const override { return {kv_heads_, head_dim_, head_dim_}; }

 private:
  int64_t head_dim_, kv_heads_, layer_;
  std::shared_ptr<ops::Linear> q_proj_, k_proj_, v_proj_, o_proj_;
  torch::Tensor log_temperature_;  // [H, 1, 1]
};

inline models::BlockRegistry blocks() {
  models::BlockRegistry registry;
  registry.add_attention("head_temperature", [](const models::BlockSite& site) {
    return std::make_shared<HeadTemperature>(site);
  });
  return registry;
}

}  // namespace courier
