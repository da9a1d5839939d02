#include "deepseek_train/training/losses.h"

namespace deepseek_train::training {
namespace {

// The batch's values as a tensor; borrowed.
torch::Tensor as_tensor(const data::Batch& batch, const std::vector<int64_t>& values) {
  return torch::from_blob(const_cast<int64_t*>(values.data()), {batch.rows, batch.columns}, at::kLong);
}

// The token that each position but the last of a row is to predict: [B * (T - 1)].
torch::Tensor shifted_targets(const data::Batch& batch) { return as_tensor(batch, batch.labels).slice(1, 1).reshape(-1); }

// Logits [N, V] float32 of the positions whose target counts, `chosen` [N] among the B * (T - 1).
torch::Tensor chosen_logits(CausalLm& model, const data::Batch& batch, const torch::Tensor& chosen) {
  auto hidden_BTD = model.hidden_states(as_tensor(batch, batch.input_ids));
  auto hidden_ND = hidden_BTD.slice(1, 0, batch.columns - 1).reshape({-1, hidden_BTD.size(2)}).index_select(0, chosen);
  return model.logits(hidden_ND).to(at::kFloat);
}

torch::Tensor positions_with_loss(const torch::Tensor& targets) {
  return (targets != data::kIgnoreIndex).nonzero().squeeze(-1);
}

}  // namespace

torch::Tensor cross_entropy_sum(CausalLm& model, const data::Batch& batch) {
  auto targets = shifted_targets(batch);
  auto chosen = positions_with_loss(targets);
  return at::cross_entropy_loss(chosen_logits(model, batch, chosen), targets.index_select(0, chosen), /*weight=*/{},
                                at::Reduction::Sum);
}

torch::Tensor distillation_sum(CausalLm& student, CausalLm& teacher, const data::Batch& batch) {
  auto chosen = positions_with_loss(shifted_targets(batch));
  torch::Tensor wanted;
  {
    torch::NoGradGuard no_grad;
    wanted = chosen_logits(teacher, batch, chosen).log_softmax(-1);
  }
  return at::kl_div(chosen_logits(student, batch, chosen).log_softmax(-1), wanted, at::Reduction::Sum, /*log_target=*/true);
}

}  // namespace deepseek_train::training
