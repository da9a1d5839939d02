// Losses, as sums over the positions they count: the caller divides by the global count, so that
// accumulation and the number of ranks do not change the gradient.
#pragma once

#include <functional>

#include "deepseek_train/data/batch.h"
#include "deepseek_train/training/causal_lm.h"

namespace deepseek_train::training {

// Sum of the cross-entropy over the batch's labels that are not data::kIgnoreIndex: a scalar,
// float32. Position t is predicted from positions before it. Rows without a label never reach the
// output projection: cost N * V, not B * T * V.
torch::Tensor cross_entropy_sum(CausalLm& model, const data::Batch& batch);

// The same for the multi-token prediction layer at `depth`, of whose hidden states [B, T - 1 -
// depth, D] place i predicts token i + depth + 2 through the model's own output projection.
torch::Tensor mtp_cross_entropy_sum(CausalLm& model, const data::Batch& batch, int64_t depth,
                                    const torch::Tensor& hidden);
// The labels that it is over.
int64_t num_mtp_labels(const data::Batch& batch, int64_t depth);

// Sum of KL(teacher || student) over every predicted position of the batch, prompts included: the
// student learns the teacher's whole distribution everywhere, not one right token (Hinton et al.
// 2015, arXiv 1503.02531). The teacher runs without gradients; same vocabulary. Cost: one more
// forward pass, and logits of all B * T positions twice.
torch::Tensor distillation_sum(CausalLm& student, CausalLm& teacher, const data::Batch& batch);

// What a trainer minimises: a sum over a batch, and the number of positions it is over.
struct Loss {
  std::function<torch::Tensor(CausalLm& model, const data::Batch& batch)> sum;
  std::function<int64_t(const data::Batch& batch)> count;
};

Loss cross_entropy();
// Borrows the teacher.
Loss distillation(CausalLm& teacher);

}  // namespace deepseek_train::training
