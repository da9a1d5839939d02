// The loss of a model whose output projection is not trained, as with adapters.
//
// Shape letters: N predicted positions, D hidden, V vocabulary.
#pragma once

#include <torch/torch.h>

#include "deepseek_train/training/causal_lm.h"

namespace deepseek_train::training {

// Whether logits() has no parameter that requires a gradient.
bool has_frozen_head(CausalLm& model, const torch::Tensor& hidden_ND);

// Sum of the cross-entropy of `targets` [N] int64. The gradient at hidden [N, D] is made together
// with the loss, for a part of the positions at a time: neither logits nor probabilities [N, V]
// are ever held whole, and backward only scales N * D values. Memory: about 10 bytes a vocabulary
// entry for each of kRowsAtOnce positions.
torch::Tensor frozen_head_cross_entropy(CausalLm& model, const torch::Tensor& hidden_ND,
                                        const torch::Tensor& targets_N);

}  // namespace deepseek_train::training
