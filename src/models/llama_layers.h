// The blocks of LlamaModel. Shape letters as in llama.h.
#pragma once

#include "deepseek_train/models/llama.h"

namespace deepseek_train::models {

// What every layer of one forward pass shares.
struct LayerContext {
  torch::Tensor cos, sin;  // [T, E], or [B, 1, E] when decoding, in the compute dtype
  KvCache* cache = nullptr;
  bool decoding = false;
  torch::Tensor
      mask;  // [B, 1, 1, capacity] bool when decoding, else undefined: plain causal attention
};

class RmsNorm : public torch::nn::Module {
 public:
  RmsNorm(int64_t size, double eps);
  torch::Tensor forward(const torch::Tensor& hidden);

  torch::Tensor weight;
  Numerics numerics = Numerics::kFast;

 private:
  double eps_;
};

class LlamaAttention : public torch::nn::Module {
 public:
  LlamaAttention(const LlamaConfig& config, size_t layer);
  torch::Tensor forward(const torch::Tensor& hidden_BTD, const LayerContext& context);

 private:
  void update_cache(const LayerContext& context, torch::Tensor& keys, torch::Tensor& values) const;

  int64_t head_dim_;
  size_t layer_;
  std::shared_ptr<ops::Linear> q_proj_, k_proj_, v_proj_, o_proj_;
};

class LlamaMlp : public torch::nn::Module {
 public:
  explicit LlamaMlp(const LlamaConfig& config);
  torch::Tensor forward(const torch::Tensor& hidden);

 private:
  std::shared_ptr<ops::Linear> gate_proj_, up_proj_, down_proj_;
};

class LlamaLayer : public torch::nn::Module {
 public:
  LlamaLayer(const LlamaConfig& config, size_t layer);
  torch::Tensor forward(const torch::Tensor& hidden_BTD, const LayerContext& context);

 private:
  std::shared_ptr<LlamaAttention> self_attn_;
  std::shared_ptr<LlamaMlp> mlp_;
  std::shared_ptr<RmsNorm> input_layernorm_, post_attention_layernorm_;
};

// Hugging Face's `model.`: embedding, layers, last norm.
class LlamaDecoder : public torch::nn::Module {
 public:
  explicit LlamaDecoder(const LlamaConfig& config);

  torch::Tensor embed(const torch::Tensor& input_ids, at::ScalarType dtype);
  torch::Tensor forward(torch::Tensor hidden_BTD, const LayerContext& context);
  // cos and sin for int64 `positions` of any shape: [..., E].
  std::pair<torch::Tensor, torch::Tensor> rotary(const torch::Tensor& positions,
                                                 at::ScalarType dtype) const;

  torch::Tensor embedding_weight;

 private:
  torch::Tensor inverse_frequencies_;  // [E / 2] fp32
  std::vector<std::shared_ptr<LlamaLayer>> layers_;
  std::shared_ptr<RmsNorm> norm_;
};

}  // namespace deepseek_train::models
