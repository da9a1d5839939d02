// Losses, as sums over tokens: the caller divides by the global number of tokens, so that accumulation and the number of
// ranks do not change the gradient.
#pragma once

#include "deepseek_train/data/batch.h"
#include "deepseek_train/training/causal_lm.h"

namespace deepseek_train::training {

// Sum of the cross-entropy over the batch's labels that are not data::kIgnoreIndex: a scalar, float32. Position t is
// predicted from positions before it. Rows without a label never reach the output projection: cost N * V, not B * T * V.
torch::Tensor cross_entropy_sum(CausalLm& model, const data::Batch& batch);

// Sum over the same positions of KL(teacher || student): the student learns the teacher's whole distribution, not one
// right token (Hinton et al. 2015, arXiv 1503.02531). The teacher runs without gradients; same vocabulary. Cost: one
// more forward pass.
torch::Tensor distillation_sum(CausalLm& student, CausalLm& teacher, const data::Batch& batch);

}  // namespace deepseek_train::training
