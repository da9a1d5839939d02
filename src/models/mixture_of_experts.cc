#include "src/models/mixture_of_experts.h"

#include "deepseek_train/core/error.h"

namespace deepseek_train::models {

Router::Router(const BlockSite& site) : moe_(*site.config.moe) {
  weight = register_parameter(
      "weight", torch::empty({moe_.n_routed_experts, site.config.hidden_size}, site.device));
  if (moe_.router == RouterKind::kSigmoidBiased)
    e_score_correction_bias = register_buffer("e_score_correction_bias",
                                              torch::zeros({moe_.n_routed_experts}, site.device));
}

// [N, X] bool: the experts of the best groups. V2 ranks groups by their best expert, V3 by the sum
// of their best two.
torch::Tensor Router::best_groups_mask(const torch::Tensor& scores) const {
  auto grouped = scores.unflatten(-1, {moe_.n_group, -1});
  auto group_scores = moe_.router == RouterKind::kSoftmax
                          ? grouped.amax(-1)
                          : std::get<0>(grouped.topk(2, -1)).sum(-1);
  auto best = std::get<1>(group_scores.topk(moe_.topk_group, -1, true, /*sorted=*/false));
  auto mask = torch::zeros_like(group_scores, at::kBool).scatter_(1, best, true);
  return mask.unsqueeze(-1).expand_as(grouped).flatten(1);
}

Router::Choice Router::forward(const torch::Tensor& hidden_ND) {
  auto logits = at::linear(hidden_ND.to(at::kFloat), weight.to(at::kFloat));
  const bool softmax = moe_.router == RouterKind::kSoftmax;
  auto scores = softmax ? logits.softmax(-1) : logits.sigmoid();
  auto ranking = scores.detach();
  if (!softmax) ranking = ranking + e_score_correction_bias;
  // Biased scores may be negative, so that only minus infinity keeps the other groups out.
  if (moe_.n_group > 1 || !softmax)
    ranking = ranking.masked_fill(best_groups_mask(ranking).logical_not(),
                                  -std::numeric_limits<double>::infinity());
  auto experts = std::get<1>(ranking.topk(moe_.num_experts_per_tok, -1, true, /*sorted=*/false));
  auto weights = scores.gather(1, experts);
  if (moe_.norm_topk_prob) weights = weights / (weights.sum(-1, /*keepdim=*/true) + 1e-20);
  return {experts, weights * moe_.routed_scaling_factor, scores};
}

void Router::to(torch::Dtype dtype, bool non_blocking) {
  auto bias = e_score_correction_bias;
  if (bias.defined()) bias = bias.clone();
  torch::nn::Module::to(dtype, non_blocking);
  if (bias.defined()) e_score_correction_bias.set_data(bias);
}

void Router::to(torch::Device device, torch::Dtype dtype, bool non_blocking) {
  torch::nn::Module::to(device, non_blocking);
  to(dtype, non_blocking);
}

MixtureOfExperts::MixtureOfExperts(const BlockSite& site) : moe_(*site.config.moe) {
  gate_ = register_module("gate", std::make_shared<Router>(site));
  auto group = register_module("experts", std::make_shared<torch::nn::Module>());
  for (int64_t i = 0; i < moe_.n_routed_experts; ++i)
    experts_.push_back(group->register_module(
        std::to_string(i), std::make_shared<SwiGluMlp>(site, moe_.moe_intermediate_size)));
  if (moe_.n_shared_experts > 0)
    shared_experts_ = register_module(
        "shared_experts",
        std::make_shared<SwiGluMlp>(site, moe_.n_shared_experts * moe_.moe_intermediate_size));
}

torch::Tensor MixtureOfExperts::forward(const torch::Tensor& hidden,
                                        const ForwardContext& context) {
  auto flat = hidden.flatten(0, -2);
  auto choice = gate_->forward(flat);
  auto loads = choice.experts.flatten().bincount({}, moe_.n_routed_experts);
  if (context.routing) {
    context.routing->loads.push_back(loads);
    context.routing->gate_weights.push_back(
        torch::zeros({moe_.n_routed_experts}, choice.weights.options())
            .scatter_add_(0, choice.experts.flatten(), choice.weights.detach().flatten()));
    if (moe_.aux_loss_alpha > 0)
      context.routing->balance_losses.push_back(
          sequence_balance_loss(choice.scores, choice.experts, hidden.size(0)));
  }
  auto result = run_experts(flat, choice, loads, context.numerics).view_as(hidden);
  return shared_experts_ ? result + shared_experts_->forward(hidden, context) : result;
}

// Tokens are brought into the order of their experts, so that each expert sees one matrix.
torch::Tensor MixtureOfExperts::run_experts(const torch::Tensor& hidden_ND,
                                            const Router::Choice& choice,
                                            const torch::Tensor& loads, Numerics numerics) {
  auto order = choice.experts.flatten().argsort(/*stable=*/true, 0, /*descending=*/false);
  auto tokens = order.div(moe_.num_experts_per_tok, "floor");
  auto permuted = hidden_ND.index_select(0, tokens);
  auto on_host = loads.cpu();
  const auto* counts = on_host.const_data_ptr<int64_t>();
  // An expert without tokens still takes part while training: its gradient is zero, not missing.
  const bool all = torch::GradMode::is_enabled();
  std::vector<torch::Tensor> outputs;
  int64_t begin = 0;
  for (size_t i = 0; i < experts_.size(); ++i) {
    if (counts[i] == 0 && !all) continue;
    outputs.push_back(experts_[i]->forward(permuted.narrow(0, begin, counts[i]), numerics));
    begin += counts[i];
  }
  auto weights = choice.weights.flatten().index_select(0, order).unsqueeze(1);
  auto weighted = (torch::cat(outputs) * weights).to(hidden_ND.scalar_type());
  return torch::zeros_like(hidden_ND).index_add(0, tokens, weighted);
}

torch::Tensor sequence_balance_loss(const torch::Tensor& scores, const torch::Tensor& experts,
                                    int64_t num_sequences) {
  const auto X = scores.size(1), C = experts.size(1);
  const auto T = scores.size(0) / num_sequences;
  auto chosen = torch::zeros_like(scores).scatter_(1, experts, 1.0).detach();
  auto share = chosen.unflatten(0, {num_sequences, T}).sum(1) *
               (static_cast<double>(X) / static_cast<double>(C * T));
  auto normalised = scores / scores.sum(-1, /*keepdim=*/true);
  return (share * normalised.unflatten(0, {num_sequences, T}).mean(1)).sum();
}

}  // namespace deepseek_train::models
