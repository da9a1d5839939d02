// The Llama decoder (Touvron et al. 2023, arXiv 2302.13971; grouped-query attention as in Llama 2
// and 3).
//
// Shape letters: B batch, T tokens, D hidden, H heads, K key-value heads, E head size, V
// vocabulary.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <vector>

#include "deepseek_train/models/llama_config.h"
#include "deepseek_train/ops/linear.h"

namespace deepseek_train::models {

// Keys and values of past tokens, one pair a layer: [B, K, capacity, E]. Rows may have different
// lengths.
class KvCache {
 public:
  // Memory: 2 * layers * B * K * capacity * E elements of `dtype`.
  KvCache(const LlamaConfig& config, int64_t batch_size, int64_t capacity, at::ScalarType dtype);

  int64_t capacity() const { return keys_.front().size(2); }
  // Tokens held by each row: [B] int64.
  torch::Tensor lengths;

 private:
  friend class LlamaAttention;
  std::vector<torch::Tensor> keys_;
  std::vector<torch::Tensor> values_;
};

// How a forward pass computes. kReference does Hugging Face's operations in Hugging Face's order,
// so that equal weights give equal bits with the same libtorch and threads; kFast uses fused
// kernels.
enum class Numerics { kFast, kReference };

class LlamaDecoder;

// Parameters have Hugging Face's names and float32 masters unless the module is converted with
// to(). Not thread-safe.
class LlamaModel : public torch::nn::Module {
 public:
  // Weights are uninitialised: load a checkpoint or call initialize().
  explicit LlamaModel(const LlamaConfig& config);

  // input_ids [B, T] int64 -> [B, T, D] in compute_dtype, after the last norm. Rows are
  // right-padded: causal attention never looks at what follows, so padding needs no mask.
  torch::Tensor hidden_states(const torch::Tensor& input_ids);

  // As above, and fills the empty cache. `lengths` [B] int64: tokens of each row before its
  // padding.
  torch::Tensor prefill(const torch::Tensor& input_ids, const torch::Tensor& lengths,
                        KvCache& cache);

  // One more token for each row: [B, 1] int64 -> [B, 1, D]. Throws InvalidArgument when a row's
  // cache is full.
  torch::Tensor decode(const torch::Tensor& input_ids, KvCache& cache);

  // [..., D] -> [..., V] in the input's dtype.
  torch::Tensor logits(const torch::Tensor& hidden) { return lm_head_->forward(hidden); }

  // Normal(0, 0.02), as Hugging Face initialises; for tests and training from scratch.
  void initialize(uint64_t seed);

  const LlamaConfig& config() const { return config_; }
  // The output projection; it shares the embedding's weight when config().tie_word_embeddings.
  ops::Linear& lm_head() { return *lm_head_; }

  // The dtype activations flow in; weights are cast to it as they are used. float32 at first.
  void set_compute_dtype(at::ScalarType dtype) { compute_dtype_ = dtype; }
  at::ScalarType compute_dtype() const { return compute_dtype_; }
  void set_numerics(Numerics numerics);

 private:
  LlamaConfig config_;
  at::ScalarType compute_dtype_ = at::kFloat;
  std::shared_ptr<LlamaDecoder> decoder_;
  std::shared_ptr<ops::Linear> lm_head_;
};

}  // namespace deepseek_train::models
