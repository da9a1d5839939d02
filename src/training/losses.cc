#include "deepseek_train/training/losses.h"

#include "src/training/frozen_head.h"

namespace deepseek_train::training {
namespace {

// The batch's values as a tensor; borrowed.
torch::Tensor as_tensor(const data::Batch& batch, const std::vector<int64_t>& values) {
  return torch::from_blob(const_cast<int64_t*>(values.data()), {batch.rows, batch.columns},
                          at::kLong);
}

// The token that each position but the last of a row is to predict: [B * (T - 1)].
torch::Tensor shifted_targets(const data::Batch& batch) {
  return as_tensor(batch, batch.labels).slice(1, 1).reshape(-1);
}

// Hidden states [N, D] at `chosen` [N] of the B * (T - 1) positions that predict something.
torch::Tensor chosen_hidden(CausalLm& model, const data::Batch& batch,
                            const torch::Tensor& chosen) {
  auto hidden_BTD = model.hidden_states(as_tensor(batch, batch.input_ids));
  return hidden_BTD.slice(1, 0, batch.columns - 1)
      .reshape({-1, hidden_BTD.size(2)})
      .index_select(0, chosen);
}

// Logits [N, V] float32.
torch::Tensor chosen_logits(CausalLm& model, const data::Batch& batch,
                            const torch::Tensor& chosen) {
  return model.logits(chosen_hidden(model, batch, chosen)).to(at::kFloat);
}

}  // namespace

torch::Tensor cross_entropy_sum(CausalLm& model, const data::Batch& batch) {
  auto targets = shifted_targets(batch);
  auto chosen = (targets != data::kIgnoreIndex).nonzero().squeeze(-1);
  targets = targets.index_select(0, chosen);
  auto hidden = chosen_hidden(model, batch, chosen);
  if (hidden.requires_grad() && has_frozen_head(model, hidden))
    return frozen_head_cross_entropy(model, hidden, targets);
  return at::cross_entropy_loss(model.logits(hidden).to(at::kFloat), targets, /*weight=*/{},
                                at::Reduction::Sum);
}

torch::Tensor distillation_sum(CausalLm& student, CausalLm& teacher, const data::Batch& batch) {
  auto lengths = torch::tensor(batch.lengths).unsqueeze(1);
  auto chosen = (torch::arange(1, batch.columns) < lengths).reshape(-1).nonzero().squeeze(-1);
  torch::Tensor wanted;
  {
    torch::NoGradGuard no_grad;
    wanted = chosen_logits(teacher, batch, chosen).log_softmax(-1);
  }
  return at::kl_div(chosen_logits(student, batch, chosen).log_softmax(-1), wanted,
                    at::Reduction::Sum, /*log_target=*/true);
}

Loss cross_entropy() {
  return {cross_entropy_sum, [](const data::Batch& batch) { return batch.num_loss_tokens(); }};
}

Loss distillation(CausalLm& teacher) {
  return {[&teacher](CausalLm& model, const data::Batch& batch) {
            return distillation_sum(model, teacher, batch);
          },
          [](const data::Batch& batch) {
            int64_t count = 0;
            for (int64_t length : batch.lengths) count += length - 1;
            return count;
          }};
}

}  // namespace deepseek_train::training
