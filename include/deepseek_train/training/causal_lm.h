// What the trainer needs of a language model. Any model that can do this can be trained.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <map>

namespace deepseek_train::training {

// What the routers of a mixture of experts did in one forward pass, by layer.
struct RoutingRecord {
  torch::Tensor counted;  // from the trainer: [B, T] bool, false for padding
  // The layer's balance loss, summed over the sequences: scalars with gradient.
  std::map<int64_t, torch::Tensor> balance_losses;
  // Counted tokens that each expert got: [experts] int64.
  std::map<int64_t, torch::Tensor> loads;
};

// Shape letters: B batch, T tokens, D hidden, N chosen positions, V vocabulary.
class CausalLm {
 public:
  virtual ~CausalLm() = default;
  // Its named parameters are what is trained and saved; its buffers are saved too.
  virtual torch::nn::Module& module() = 0;
  // [B, T] int64, right-padded -> [B, T, D].
  virtual torch::Tensor hidden_states(const torch::Tensor& input_ids) = 0;
  // [N, D] -> [N, V].
  virtual torch::Tensor logits(const torch::Tensor& hidden) = 0;

  // What follows is for mixtures of experts and multi-token prediction; others leave it as it is.

  // Layers that route, and the number of experts of each.
  virtual std::map<int64_t, int64_t> expert_layers() const { return {}; }
  // As hidden_states, and adds to the record.
  virtual torch::Tensor routed_hidden_states(const torch::Tensor& input_ids,
                                             RoutingRecord& /*routing*/) {
    return hidden_states(input_ids);
  }
  // Called after each step with the loads of the global batch: DeepSeek-V3's aux-loss-free rule
  // (arXiv 2412.19437, section 2.1.2) with speed `gamma`, never 0.
  virtual void balance_experts(const std::map<int64_t, torch::Tensor>& /*loads*/,
                               double /*gamma*/) {}
  virtual int64_t num_mtp_layers() const { return 0; }
  // The hidden states [B, S, D] of the layer before (at depth 0 the model's) and the ids [B, S]
  // from token `depth` on -> [B, S - 1, D], of which place i predicts token i + depth + 2.
  virtual torch::Tensor mtp_hidden_states(int64_t /*depth*/, const torch::Tensor& hidden,
                                          const torch::Tensor& /*input_ids*/,
                                          RoutingRecord& /*routing*/) {
    return hidden;
  }
};

}  // namespace deepseek_train::training
