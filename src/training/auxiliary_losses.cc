#include "src/training/auxiliary_losses.h"

#include "deepseek_train/core/error.h"
#include "deepseek_train/training/losses.h"
#include "src/training/batch_tensor.h"

namespace deepseek_train::training {
namespace {

torch::Tensor plus(const torch::Tensor& a, const torch::Tensor& b) {
  if (!a.defined()) return b;
  return b.defined() ? a + b : a;
}

}  // namespace

torch::Tensor AuxiliaryLosses::Observer::hidden_states(const torch::Tensor& input_ids) {
  return hidden = model_.routed_hidden_states(input_ids, routing);
}

AuxiliaryLosses::AuxiliaryLosses(CausalLm& model, const AuxiliaryWeights& weights)
    : model_(model), weights_(weights), observer_(model) {
  // Every layer, so that ranks whose batches were too short for one of them agree with the others.
  for (auto [layer, experts] : model.expert_layers())
    loads_[layer] = torch::zeros({experts}, at::kLong);
}

std::vector<int64_t> AuxiliaryLosses::counts(const std::vector<data::Batch>& batches) const {
  std::vector<int64_t> counts(1 + static_cast<size_t>(model_.num_mtp_layers()));
  for (const auto& batch : batches) {
    counts[0] += batch.rows;
    for (int64_t depth = 0; depth < model_.num_mtp_layers(); ++depth)
      counts[static_cast<size_t>(depth) + 1] += num_mtp_labels(batch, depth);
  }
  return counts;
}

CausalLm& AuxiliaryLosses::observed(const data::Batch& batch) {
  observer_.routing = {};
  observer_.hidden.reset();
  auto lengths = torch::tensor(batch.lengths).unsqueeze(1);
  observer_.routing.counted = torch::arange(batch.columns) < lengths;
  return observer_;
}

torch::Tensor AuxiliaryLosses::term(const data::Batch& batch) {
  if (loads_.empty() && model_.num_mtp_layers() == 0) return {};
  DST_CHECK(
      observer_.hidden.defined(),
      "the loss did not ask the model it was given for hidden_states; without them there is no "
      "balance and no multi-token prediction loss");
  auto mtp = mtp_term(batch);  // its layer routes too
  auto total = plus(mtp, balance_term());
  add_loads();
  observer_.routing = {};
  observer_.hidden.reset();
  return total;
}

torch::Tensor AuxiliaryLosses::mtp_term(const data::Batch& batch) {
  const auto layers = model_.num_mtp_layers();
  if (weights_.mtp_loss_weight == 0 || layers == 0) return {};
  auto ids = as_tensor(batch, batch.input_ids);
  auto hidden = observer_.hidden;
  torch::Tensor total;
  for (int64_t depth = 0; depth < layers && batch.columns > depth + 2; ++depth) {
    hidden = model_.mtp_hidden_states(depth, hidden, ids.slice(1, depth), observer_.routing);
    const auto count = counts_.at(static_cast<size_t>(depth) + 1);
    if (count == 0) continue;
    auto sum = mtp_cross_entropy_sum(model_, batch, depth, hidden);
    total = plus(total, sum / static_cast<double>(count * layers));
  }
  if (!total.defined()) return {};
  mtp_share_ += total.item<double>();
  return total * weights_.mtp_loss_weight;
}

torch::Tensor AuxiliaryLosses::balance_term() {
  torch::Tensor total;
  for (const auto& [layer, loss] : observer_.routing.balance_losses) total = plus(total, loss);
  if (!total.defined()) return {};
  total = total / static_cast<double>(counts_.at(0));
  balance_share_ += total.item<double>();
  if (weights_.router_aux_loss_coef == 0) return {};
  return total * weights_.router_aux_loss_coef;
}

void AuxiliaryLosses::add_loads() {
  for (const auto& [layer, load] : observer_.routing.loads) loads_.at(layer) += load.cpu();
}

std::map<int64_t, torch::Tensor> AuxiliaryLosses::global_loads(
    collectives::Communicator& communicator) const {
  if (loads_.empty()) return {};
  std::vector<torch::Tensor> flat;
  for (const auto& [layer, load] : loads_) flat.push_back(load.cpu());
  auto sums = torch::cat(flat);
  communicator.all_reduce(
      std::span(sums.mutable_data_ptr<int64_t>(), static_cast<size_t>(sums.numel())));
  std::map<int64_t, torch::Tensor> global;
  int64_t begin = 0;
  for (const auto& [layer, load] : loads_) {
    global[layer] = sums.narrow(0, begin, load.numel());
    begin += load.numel();
  }
  return global;
}

}  // namespace deepseek_train::training
