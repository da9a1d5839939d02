#include "deepseek_train/training/losses.h"

#include "src/training/batch_tensor.h"
#include "src/training/frozen_head.h"

namespace deepseek_train::training {
namespace {

// The token that each place of a row is to predict, `ahead` tokens on: [B * (T - ahead)].
torch::Tensor targets_ahead(const data::Batch& batch, int64_t ahead) {
  return as_tensor(batch, batch.labels).slice(1, ahead).reshape(-1);
}

// Hidden states [N, D] of [B, S, D], at `chosen` [N] of the first `columns` places of all rows.
torch::Tensor chosen_hidden(const torch::Tensor& hidden_BSD, int64_t columns,
                            const torch::Tensor& chosen) {
  return hidden_BSD.slice(1, 0, columns).reshape({-1, hidden_BSD.size(2)}).index_select(0, chosen);
}

// Logits [N, V] float32 at the B * (T - 1) positions that predict something.
torch::Tensor chosen_logits(CausalLm& model, const data::Batch& batch,
                            const torch::Tensor& chosen) {
  auto hidden = model.hidden_states(as_tensor(batch, batch.input_ids));
  return model.logits(chosen_hidden(hidden, batch.columns - 1, chosen)).to(at::kFloat);
}

// Of the labelled tokens `ahead` places on, predicted from `hidden_BSD`.
torch::Tensor cross_entropy_ahead(CausalLm& model, const data::Batch& batch,
                                  const torch::Tensor& hidden_BSD, int64_t ahead) {
  auto targets = targets_ahead(batch, ahead);
  auto chosen = (targets != data::kIgnoreIndex).nonzero().squeeze(-1);
  targets = targets.index_select(0, chosen);
  auto hidden = chosen_hidden(hidden_BSD, batch.columns - ahead, chosen);
  if (hidden.requires_grad() && has_frozen_head(model, hidden))
    return frozen_head_cross_entropy(model, hidden, targets);
  return at::cross_entropy_loss(model.logits(hidden).to(at::kFloat), targets, /*weight=*/{},
                                at::Reduction::Sum);
}

}  // namespace

torch::Tensor as_tensor(const data::Batch& batch, const std::vector<int64_t>& values) {
  return torch::from_blob(const_cast<int64_t*>(values.data()), {batch.rows, batch.columns},
                          at::kLong);
}

torch::Tensor cross_entropy_sum(CausalLm& model, const data::Batch& batch) {
  auto hidden = model.hidden_states(as_tensor(batch, batch.input_ids));
  return cross_entropy_ahead(model, batch, hidden, 1);
}

torch::Tensor mtp_cross_entropy_sum(CausalLm& model, const data::Batch& batch, int64_t depth,
                                    const torch::Tensor& hidden) {
  return cross_entropy_ahead(model, batch, hidden, depth + 2);
}

int64_t num_mtp_labels(const data::Batch& batch, int64_t depth) {
  if (batch.columns < depth + 3) return 0;
  return (targets_ahead(batch, depth + 2) != data::kIgnoreIndex).sum().item<int64_t>();
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
