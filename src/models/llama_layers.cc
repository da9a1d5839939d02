#include "src/models/llama_layers.h"

namespace deepseek_train::models {
namespace {

// Pairs (i, i + E/2) turn together: Hugging Face's layout of the rotary embedding.
torch::Tensor rotate(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin) {
  auto halves = x.chunk(2, -1);
  return x * cos + torch::cat({-halves[1], halves[0]}, -1) * sin;
}

// A module that only groups children under a name ("embed_tokens", "layers").
std::shared_ptr<torch::nn::Module> make_group() { return std::make_shared<torch::nn::Module>(); }

}  // namespace

RmsNorm::RmsNorm(int64_t size, double eps) : eps_(eps) {
  weight = register_parameter("weight", torch::empty({size}));
}

torch::Tensor RmsNorm::forward(const torch::Tensor& hidden) {
  if (numerics == Numerics::kFast && hidden.scalar_type() == weight.scalar_type())
    return at::rms_norm(hidden, weight.sizes(), weight, eps_);
  auto wide = hidden.to(at::kFloat);
  auto variance = wide.pow(2).mean(-1, /*keepdim=*/true);
  return weight.to(hidden.scalar_type()) *
         (wide * torch::rsqrt(variance + eps_)).to(hidden.scalar_type());
}

LlamaAttention::LlamaAttention(const LlamaConfig& config, size_t layer)
    : head_dim_(config.head_dim), layer_(layer) {
  auto make = [&](const char* name, int64_t in, int64_t out) {
    return register_module(name, std::make_shared<ops::Linear>(ops::LinearOptions{in, out}));
  };
  q_proj_ = make("q_proj", config.hidden_size, config.num_attention_heads * head_dim_);
  k_proj_ = make("k_proj", config.hidden_size, config.num_key_value_heads * head_dim_);
  v_proj_ = make("v_proj", config.hidden_size, config.num_key_value_heads * head_dim_);
  o_proj_ = make("o_proj", config.num_attention_heads * head_dim_, config.hidden_size);
}

torch::Tensor LlamaAttention::forward(const torch::Tensor& hidden_BTD,
                                      const LayerContext& context) {
  const auto B = hidden_BTD.size(0), T = hidden_BTD.size(1);
  auto heads = [&](ops::Linear& projection) {
    return projection.forward(hidden_BTD).view({B, T, -1, head_dim_}).transpose(1, 2);
  };
  // cos and sin broadcast over the heads of [B, H, T, E].
  auto cos = context.decoding ? context.cos.unsqueeze(1) : context.cos;
  auto sin = context.decoding ? context.sin.unsqueeze(1) : context.sin;
  auto query = heads(*q_proj_), key = heads(*k_proj_), value = heads(*v_proj_);
  query = rotate(query, cos, sin);
  key = rotate(key, cos, sin);
  if (context.cache) update_cache(context, key, value);
  std::optional<torch::Tensor> mask;
  if (context.decoding) mask = context.mask;
  auto attended = at::scaled_dot_product_attention(query, key, value, mask, /*dropout_p=*/0.0,
                                                   /*is_causal=*/!context.decoding && T > 1,
                                                   /*scale=*/std::nullopt,
                                                   /*enable_gqa=*/true);
  return o_proj_->forward(attended.transpose(1, 2).reshape({B, T, -1}).contiguous());
}

// Prefill writes the rows' first T places; decoding writes each row's next place and attends to the
// whole cache.
void LlamaAttention::update_cache(const LayerContext& context, torch::Tensor& key,
                                  torch::Tensor& value) const {
  auto& keys = context.cache->keys_[layer_];
  auto& values = context.cache->values_[layer_];
  if (!context.decoding) {
    keys.narrow(2, 0, key.size(2)).copy_(key);
    values.narrow(2, 0, value.size(2)).copy_(value);
    return;
  }
  auto place = context.cache->lengths.view({-1, 1, 1, 1}).expand(key.sizes());
  keys.scatter_(2, place, key);
  values.scatter_(2, place, value);
  key = keys;
  value = values;
}

LlamaMlp::LlamaMlp(const LlamaConfig& config) {
  auto make = [&](const char* name, int64_t in, int64_t out) {
    return register_module(name, std::make_shared<ops::Linear>(ops::LinearOptions{in, out}));
  };
  gate_proj_ = make("gate_proj", config.hidden_size, config.intermediate_size);
  up_proj_ = make("up_proj", config.hidden_size, config.intermediate_size);
  down_proj_ = make("down_proj", config.intermediate_size, config.hidden_size);
}

torch::Tensor LlamaMlp::forward(const torch::Tensor& hidden) {
  return down_proj_->forward(torch::silu(gate_proj_->forward(hidden)) * up_proj_->forward(hidden));
}

LlamaLayer::LlamaLayer(const LlamaConfig& config, size_t layer) {
  self_attn_ = register_module("self_attn", std::make_shared<LlamaAttention>(config, layer));
  mlp_ = register_module("mlp", std::make_shared<LlamaMlp>(config));
  auto norm = [&](const char* name) {
    return register_module(name,
                           std::make_shared<RmsNorm>(config.hidden_size, config.rms_norm_eps));
  };
  input_layernorm_ = norm("input_layernorm");
  post_attention_layernorm_ = norm("post_attention_layernorm");
}

torch::Tensor LlamaLayer::forward(const torch::Tensor& hidden_BTD, const LayerContext& context) {
  auto attended = hidden_BTD + self_attn_->forward(input_layernorm_->forward(hidden_BTD), context);
  return attended + mlp_->forward(post_attention_layernorm_->forward(attended));
}

LlamaDecoder::LlamaDecoder(const LlamaConfig& config) {
  auto embedding = register_module("embed_tokens", make_group());
  embedding_weight = embedding->register_parameter(
      "weight", torch::empty({config.vocab_size, config.hidden_size}));
  auto layers = register_module("layers", make_group());
  for (int64_t i = 0; i < config.num_hidden_layers; ++i)
    layers_.push_back(layers->register_module(
        std::to_string(i), std::make_shared<LlamaLayer>(config, static_cast<size_t>(i))));
  norm_ =
      register_module("norm", std::make_shared<RmsNorm>(config.hidden_size, config.rms_norm_eps));
  auto exponents = torch::arange(0, config.head_dim, 2, at::kFloat) / config.head_dim;
  inverse_frequencies_ = 1.0 / torch::pow(config.rope_theta, exponents);
}

torch::Tensor LlamaDecoder::embed(const torch::Tensor& input_ids, at::ScalarType dtype) {
  return torch::embedding(embedding_weight, input_ids).to(dtype);
}

std::pair<torch::Tensor, torch::Tensor> LlamaDecoder::rotary(const torch::Tensor& positions,
                                                             at::ScalarType dtype) const {
  torch::NoGradGuard no_grad;
  auto angles = positions.unsqueeze(-1).to(at::kFloat) * inverse_frequencies_;
  auto both = torch::cat({angles, angles}, -1);
  return {both.cos().to(dtype), both.sin().to(dtype)};
}

torch::Tensor LlamaDecoder::forward(torch::Tensor hidden_BTD, const LayerContext& context) {
  for (auto& layer : layers_) hidden_BTD = layer->forward(hidden_BTD, context);
  return norm_->forward(hidden_BTD);
}

}  // namespace deepseek_train::models
