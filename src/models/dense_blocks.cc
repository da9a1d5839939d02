#include "src/models/dense_blocks.h"

#include <cmath>

#include "deepseek_train/ops/fused.h"

namespace deepseek_train::models {

GroupedQueryAttention::GroupedQueryAttention(const BlockSite& site)
    : head_dim_(site.config.head_dim),
      kv_heads_(site.config.num_key_value_heads),
      layer_(site.layer),
      window_(site.config.uses_window(site.layer)) {
  const auto& config = site.config;
  auto linear = [&](const char* name, int64_t in, int64_t out, bool bias) {
    return register_module(
        name, std::make_shared<ops::Linear>(ops::LinearOptions{in, out, bias, site.device}));
  };
  const auto heads = config.num_attention_heads;
  q_proj_ = linear("q_proj", config.hidden_size, heads * head_dim_, config.attention_bias);
  k_proj_ = linear("k_proj", config.hidden_size, kv_heads_ * head_dim_, config.attention_bias);
  v_proj_ = linear("v_proj", config.hidden_size, kv_heads_ * head_dim_, config.attention_bias);
  o_proj_ = linear("o_proj", heads * head_dim_, config.hidden_size, config.attention_output_bias);
  if (!config.qk_norm) return;
  auto norm = [&](const char* name) {
    return register_module(name,
                           std::make_shared<RmsNorm>(head_dim_, config.rms_norm_eps, site.device));
  };
  q_norm_ = norm("q_norm");
  k_norm_ = norm("k_norm");
}

torch::Tensor GroupedQueryAttention::forward(const torch::Tensor& hidden_BTD,
                                             const ForwardContext& context) {
  auto heads = [&](ops::Linear& projection, RmsNorm* norm) {
    auto x = projection.forward(hidden_BTD).unflatten(-1, {-1, head_dim_});
    return (norm ? norm->forward(x, context.numerics) : x).transpose(1, 2);
  };
  auto query = rotate_half_split(heads(*q_proj_, q_norm_.get()), context);
  auto key = rotate_half_split(heads(*k_proj_, k_norm_.get()), context);
  auto value = heads(*v_proj_, nullptr);
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim_));
  return o_proj_->forward(attend(query, key, value, layer_, context, {scale, window_}));
}

SwiGluMlp::SwiGluMlp(const BlockSite& site, int64_t intermediate_size) {
  auto linear = [&](const char* name, int64_t in, int64_t out) {
    return register_module(name, std::make_shared<ops::Linear>(ops::LinearOptions{
                                     in, out, site.config.mlp_bias, site.device}));
  };
  const auto hidden_size = site.config.hidden_size;
  gate_proj_ = linear("gate_proj", hidden_size, intermediate_size);
  up_proj_ = linear("up_proj", hidden_size, intermediate_size);
  down_proj_ = linear("down_proj", intermediate_size, hidden_size);
}

std::optional<ExpertWeights> SwiGluMlp::plain_weights() const {
  for (const auto& linear : {gate_proj_, up_proj_, down_proj_})
    if (linear->bias.defined() || linear->method() != ops::dense_linear_method())
      return std::nullopt;
  return ExpertWeights{gate_proj_->weight, up_proj_->weight, down_proj_->weight};
}

torch::Tensor SwiGluMlp::forward(const torch::Tensor& hidden, Numerics numerics) {
  auto gate = gate_proj_->forward(hidden), up = up_proj_->forward(hidden);
  return down_proj_->forward(numerics == Numerics::kFast ? ops::swiglu(gate, up)
                                                         : torch::silu(gate) * up);
}

}  // namespace deepseek_train::models
