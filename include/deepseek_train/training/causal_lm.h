// What the trainer needs of a language model. Any model that can do this can be trained.
#pragma once

#include <torch/torch.h>

namespace deepseek_train::training {

// Shape letters: B batch, T tokens, D hidden, N chosen positions, V vocabulary.
class CausalLm {
 public:
  virtual ~CausalLm() = default;
  // Its named parameters are what is trained and saved.
  virtual torch::nn::Module& module() = 0;
  // [B, T] int64, right-padded -> [B, T, D].
  virtual torch::Tensor hidden_states(const torch::Tensor& input_ids) = 0;
  // [N, D] -> [N, V].
  virtual torch::Tensor logits(const torch::Tensor& hidden) = 0;
};

}  // namespace deepseek_train::training
