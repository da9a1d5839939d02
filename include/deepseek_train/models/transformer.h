// The decoder-only transformer, dense or mixture of experts, in all architectures of ModelConfig.
//
// Shape letters: B batch, T tokens, D hidden, V vocabulary.
#pragma once

#include <torch/torch.h>

#include <map>
#include <memory>
#include <utility>

#include "deepseek_train/models/blocks.h"
#include "deepseek_train/models/model_config.h"
#include "deepseek_train/ops/linear.h"

namespace deepseek_train::models {

class Decoder;
class RotaryEmbedding;

// Parameters and buffers have Hugging Face's names. Float32 masters unless the module is converted
// with to(). Not thread-safe.
class Transformer : public torch::nn::Module {
 public:
  // Weights are uninitialised: load a checkpoint or call initialize(). On the meta device they have
  // shapes and no memory. Throws NotFound when the config names a block that `blocks` does not
  // have.
  //
  // Expert parallelism: with `expert_ranks`, rank r of n holds only the experts [r * X / n, (r + 1)
  // * X / n) of each layer's X, under their global numbers, and all the rest. Each rank passes its
  // own tokens, as many as it likes; they travel to their experts and back (two all_to_all a layer
  // forward, two backward: 2 * C * D elements a token each way). Forward and backward are then
  // collective: every rank calls them equally often, in the same order, ranks without tokens too.
  // Experts' gradients are sums over all ranks' tokens already, others' this rank's own. The
  // communicator is borrowed; it should serve nothing else while a pass runs. Throws
  // InvalidArgument unless the ranks share the experts evenly.
  explicit Transformer(const ModelConfig& config, const BlockRegistry& blocks = {},
                       torch::Device device = torch::kCPU,
                       collectives::Communicator* expert_ranks = nullptr);
  ~Transformer() override;

  // input_ids [B, T] int64 -> [B, T, D] in compute_dtype, after the last norm. Rows are
  // right-padded: causal attention never looks at what follows, so padding needs no mask. Throws
  // InvalidArgument for ids outside the vocabulary.
  torch::Tensor hidden_states(const torch::Tensor& input_ids, RoutingRecord* routing = nullptr);

  // As above, and fills the empty cache. `lengths` [B] int64: tokens of each row before its
  // padding.
  torch::Tensor prefill(const torch::Tensor& input_ids, const torch::Tensor& lengths,
                        KvCache& cache);

  // One more token for each row: [B, 1] int64 -> [B, 1, D]. Throws InvalidArgument when a row's
  // cache is full.
  torch::Tensor decode(const torch::Tensor& input_ids, KvCache& cache);

  // What the `depth`-th multi-token prediction layer makes of the main model's hidden states [B, T,
  // D] (or those of the layer before): [B, T - 1, D], of which place i predicts token i + depth + 2
  // through logits(). `input_ids` [B, T] are the tokens that follow: at depth d, the ids from d on.
  torch::Tensor mtp_hidden_states(int64_t depth, const torch::Tensor& hidden,
                                  const torch::Tensor& input_ids, RoutingRecord* routing = nullptr);

  // [..., D] -> [..., V] in the input's dtype.
  torch::Tensor logits(const torch::Tensor& hidden) { return lm_head_->forward(hidden); }

  // An empty cache for rows of at most `capacity` tokens.
  KvCache make_cache(int64_t batch_size, int64_t capacity) const;

  // Normal(0, 0.02), norms one and biases zero, as Hugging Face initialises; for tests and training
  // from scratch.
  void initialize(uint64_t seed);

  // The aux-loss-free rule of DeepSeek-V3 (arXiv 2412.19437, section 2.1.2): every router's bias
  // moves by -gamma for experts with more than the mean load and by +gamma for those with less.
  // `loads` as in RoutingRecord, counted over the global batch. gamma 0 changes nothing. Throws
  // InvalidArgument for a layer without experts.
  void balance_experts(const std::map<int64_t, torch::Tensor>& loads, double gamma);

  const ModelConfig& config() const { return config_; }
  // The experts of every layer that this rank holds: [first, last).
  std::pair<int64_t, int64_t> local_experts() const { return local_experts_; }
  // The output projection; it shares the embedding's weight when config().tie_word_embeddings.
  ops::Linear& lm_head() { return *lm_head_; }

  // The dtype activations flow in; weights are cast to it as they are used. float32 at first.
  void set_compute_dtype(at::ScalarType dtype) { compute_dtype_ = dtype; }
  at::ScalarType compute_dtype() const { return compute_dtype_; }
  void set_numerics(Numerics numerics) { numerics_ = numerics; }

 private:
  ForwardContext context_for(const torch::Tensor& positions) const;
  MlpBlock& mlp_of(int64_t layer) const;
  void mask_window(ForwardContext& context, int64_t num_tokens, torch::Device device) const;

  ModelConfig config_;
  at::ScalarType compute_dtype_ = at::kFloat;
  Numerics numerics_ = Numerics::kFast;
  std::shared_ptr<Decoder> decoder_;
  std::shared_ptr<ops::Linear> lm_head_;
  std::unique_ptr<RotaryEmbedding> rotary_;
  std::pair<int64_t, int64_t> local_experts_;
};

}  // namespace deepseek_train::models
