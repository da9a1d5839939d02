#include "src/models/latent_attention.h"

#include <cmath>

#include "src/models/rotary_embedding.h"

namespace deepseek_train::models {
namespace {

// The inner norms have an epsilon of their own: DeepSeek's class default, not rms_norm_eps.
constexpr double kLatentNormEps = 1e-6;

// YaRN's magnitude enters the softmax scale squared, by mscale_all_dim (mscale scales the tables).
double softmax_scale_of(const ModelConfig& config) {
  const double plain = 1 / std::sqrt(static_cast<double>(config.mla->qk_head_dim()));
  const double all_dim = config.rope.mscale_all_dim.value_or(0);
  if (config.rope.rope_type == "default" || all_dim == 0) return plain;
  const double m = yarn_mscale(config.rope.factor, all_dim);
  return plain * m * m;
}

}  // namespace

LatentAttention::LatentAttention(const BlockSite& site)
    : mla_(*site.config.mla),
      heads_(site.config.num_attention_heads),
      layer_(site.layer),
      scale_(softmax_scale_of(site.config)) {
  const auto& config = site.config;
  auto linear = [&](const char* name, int64_t in, int64_t out, bool bias) {
    return register_module(
        name, std::make_shared<ops::Linear>(ops::LinearOptions{in, out, bias, site.device}));
  };
  auto norm = [&](const char* name, int64_t size) {
    return register_module(name, std::make_shared<RmsNorm>(size, kLatentNormEps, site.device));
  };
  const auto D = config.hidden_size, R = mla_.kv_lora_rank;
  const bool bias = config.attention_bias;
  if (mla_.q_lora_rank) {
    q_a_proj_ = linear("q_a_proj", D, *mla_.q_lora_rank, bias);
    q_a_norm_ = norm("q_a_layernorm", *mla_.q_lora_rank);
    q_b_proj_ = linear("q_b_proj", *mla_.q_lora_rank, heads_ * mla_.qk_head_dim(), false);
  } else {
    q_proj_ = linear("q_proj", D, heads_ * mla_.qk_head_dim(), false);
  }
  kv_a_proj_ = linear("kv_a_proj_with_mqa", D, R + mla_.qk_rope_head_dim, bias);
  kv_a_norm_ = norm("kv_a_layernorm", R);
  kv_b_proj_ = linear("kv_b_proj", R, heads_ * (mla_.qk_nope_head_dim + mla_.v_head_dim), false);
  o_proj_ = linear("o_proj", heads_ * mla_.v_head_dim, D, config.attention_output_bias);
}

// [B, H, T, nope + rope], the second part rotated.
torch::Tensor LatentAttention::project_query(const torch::Tensor& hidden_BTD,
                                             const ForwardContext& context) {
  auto flat = q_proj_ ? q_proj_->forward(hidden_BTD)
                      : q_b_proj_->forward(
                            q_a_norm_->forward(q_a_proj_->forward(hidden_BTD), context.numerics));
  auto query = flat.unflatten(-1, {heads_, mla_.qk_head_dim()}).transpose(1, 2);
  auto parts = query.split_with_sizes({mla_.qk_nope_head_dim, mla_.qk_rope_head_dim}, -1);
  auto rotated = mla_.rope_interleave ? rotate_interleaved(parts[1], context)
                                      : rotate_half_split(parts[1], context);
  return torch::cat({parts[0], rotated}, -1);
}

torch::Tensor LatentAttention::forward(const torch::Tensor& hidden_BTD,
                                       const ForwardContext& context) {
  auto query = project_query(hidden_BTD, context);
  auto down = kv_a_proj_->forward(hidden_BTD).unsqueeze(1);  // [B, 1, T, R + rope]
  auto parts = down.split_with_sizes({mla_.kv_lora_rank, mla_.qk_rope_head_dim}, -1);
  auto latent = kv_a_norm_->forward(parts[0], context.numerics);
  auto key = mla_.rope_interleave ? rotate_interleaved(parts[1], context)
                                  : rotate_half_split(parts[1], context);
  torch::Tensor attended;
  if (context.cache) {
    auto& past = context.cache->keys[static_cast<size_t>(layer_)];
    auto now = torch::cat({latent, key}, -1);
    if (context.decoding) {
      past.scatter_(2, context.cache->lengths.view({-1, 1, 1, 1}).expand(now.sizes()), now);
    } else {
      past.narrow(2, 0, now.size(2)).copy_(now);
    }
  }
  if (context.decoding) {
    attended = absorbed(query, context.cache->keys[static_cast<size_t>(layer_)], context);
  } else {
    attended = expanded(query, latent, key, context);
  }
  return o_proj_->forward(attended);
}

// Keys and values of every head: what training differentiates.
torch::Tensor LatentAttention::expanded(const torch::Tensor& query, const torch::Tensor& latent,
                                        const torch::Tensor& rotated_key,
                                        const ForwardContext& context) {
  auto up = kv_b_proj_->forward(latent.squeeze(1))
                .unflatten(-1, {heads_, mla_.qk_nope_head_dim + mla_.v_head_dim})
                .transpose(1, 2);
  auto parts = up.split_with_sizes({mla_.qk_nope_head_dim, mla_.v_head_dim}, -1);
  auto key = torch::cat({parts[0], rotated_key.expand({-1, heads_, -1, -1})}, -1);
  ForwardContext uncached = context;  // the latent is in the cache already
  uncached.cache = nullptr;
  return attend(query, key, parts[1], layer_, uncached, {scale_, false});
}

// One token a row over the latents of all past ones: query and output carry the up-projections, so
// that no key and no value of a head is ever made.
torch::Tensor LatentAttention::absorbed(const torch::Tensor& query,
                                        const torch::Tensor& latent_and_key,
                                        const ForwardContext& context) {
  const auto R = mla_.kv_lora_rank;
  auto weight = kv_b_proj_->dense_weight(query.scalar_type())
                    .view({heads_, mla_.qk_nope_head_dim + mla_.v_head_dim, R});
  auto key_up = weight.narrow(1, 0, mla_.qk_nope_head_dim);                  // [H, nope, R]
  auto value_up = weight.narrow(1, mla_.qk_nope_head_dim, mla_.v_head_dim);  // [H, v, R]
  auto parts = query.split_with_sizes({mla_.qk_nope_head_dim, mla_.qk_rope_head_dim}, -1);
  auto in_latent = torch::cat({torch::matmul(parts[0], key_up), parts[1]}, -1);
  auto mask = context.mask;
  auto scores = torch::matmul(in_latent, latent_and_key.transpose(2, 3)) * scale_;
  scores = scores.masked_fill(mask.logical_not(), -std::numeric_limits<double>::infinity());
  auto weights = torch::softmax(scores, -1, at::kFloat).to(query.scalar_type());
  auto attended = torch::matmul(weights, latent_and_key.narrow(-1, 0, R));  // [B, H, 1, R]
  auto values = torch::matmul(attended, value_up.transpose(1, 2));          // [B, H, 1, v]
  return values.transpose(1, 2).flatten(2);
}

}  // namespace deepseek_train::models
