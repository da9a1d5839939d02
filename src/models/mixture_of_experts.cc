#include "src/models/mixture_of_experts.h"

#include "deepseek_train/core/error.h"

namespace deepseek_train::models {
namespace {

// The sum of the routing weights that counted tokens gave each expert: [experts].
torch::Tensor gate_weights(const Router::Choice& choice, const torch::Tensor& counted,
                           int64_t num_experts) {
  auto weights = choice.weights.detach() * counted.reshape({-1, 1});
  return at::zeros({num_experts}, weights.options())
      .scatter_add_(0, choice.experts.flatten(), weights.flatten());
}

}  // namespace

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

MixtureOfExperts::MixtureOfExperts(const BlockSite& site)
    : moe_(*site.config.moe), layer_(site.layer), expert_ranks_(site.expert_ranks) {
  gate_ = register_module("gate", std::make_shared<Router>(site));
  auto group = register_module("experts", std::make_shared<torch::nn::Module>());
  const auto [first, last] = expert_shard(expert_ranks_, moe_.n_routed_experts);
  for (int64_t i = first; i < last; ++i)
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
  if (context.routing) {
    auto counted = context.counted.defined() ? context.counted
                                             : at::ones({hidden.size(0), hidden.size(1)},
                                                        hidden.options().dtype(at::kBool));
    auto loads = sequence_loads(choice.experts, counted, moe_.n_routed_experts);
    context.routing->loads[layer_] = loads.sum(0);
    context.routing->gate_weights[layer_] = gate_weights(choice, counted, moe_.n_routed_experts);
    context.routing->balance_losses[layer_] = sequence_balance_loss(choice.scores, counted, loads);
  }
  auto result = run_experts(flat, choice, context.numerics).view_as(hidden);
  return shared_experts_ ? result + shared_experts_->forward(hidden, context) : result;
}

// Tokens are brought into the order of their experts, so that each expert sees one matrix.
torch::Tensor MixtureOfExperts::run_experts(const torch::Tensor& hidden_ND,
                                            const Router::Choice& choice, Numerics numerics) {
  auto slots = choice.experts.flatten();
  auto order = slots.argsort(/*stable=*/true, 0, /*descending=*/false);
  auto tokens = order.div(moe_.num_experts_per_tok, "floor");
  auto rows = hidden_ND.index_select(0, tokens);
  auto on_host = slots.bincount({}, moe_.n_routed_experts).cpu();
  std::vector<int64_t> counts(on_host.const_data_ptr<int64_t>(),
                              on_host.const_data_ptr<int64_t>() + on_host.numel());
  torch::Tensor outputs;
  if (expert_ranks_) {
    ExpertExchange exchange(*expert_ranks_, counts, rows.device());
    outputs = exchange.give_back(
        apply_experts(exchange.hand_out(rows), exchange.local_counts(), numerics));
  } else {
    outputs = apply_experts(rows, counts, numerics);
  }
  auto weights = choice.weights.flatten().index_select(0, order).unsqueeze(1);
  auto weighted = (outputs * weights).to(hidden_ND.scalar_type());
  return torch::zeros_like(hidden_ND).index_add(0, tokens, weighted);
}

// Empty unless every expert here is plain.
std::vector<ExpertWeights> MixtureOfExperts::plain_weights() const {
  std::vector<ExpertWeights> weights;
  for (const auto& expert : experts_) {
    auto own = expert->plain_weights();
    if (!own) return {};
    weights.push_back(*own);
  }
  return weights;
}

// rows [sum of counts, D] in the order of this rank's experts -> the same rows, each through its
// expert.
torch::Tensor MixtureOfExperts::apply_experts(const torch::Tensor& rows,
                                              const std::vector<int64_t>& counts,
                                              Numerics numerics) {
  if (numerics == Numerics::kFast && rows.is_cpu())
    if (auto weights = plain_weights(); !weights.empty())
      return grouped_swiglu(rows, counts, weights);
  auto parts = rows.split_with_sizes(counts);  // one split: its backward is one concatenation
  // An expert without tokens still takes part while training: its gradient is zero, not missing.
  const bool all = torch::GradMode::is_enabled();
  std::vector<torch::Tensor> outputs;
  for (size_t i = 0; i < experts_.size(); ++i)
    if (all || counts[i] > 0) outputs.push_back(experts_[i]->forward(parts[i], numerics));
  return outputs.empty() ? rows : torch::cat(outputs);
}

torch::Tensor sequence_loads(const torch::Tensor& experts, const torch::Tensor& counted,
                             int64_t num_experts) {
  const auto B = counted.size(0), T = counted.size(1), C = experts.size(1);
  auto ones = counted.to(at::kLong).unsqueeze(-1).expand({B, T, C}).reshape({B, T * C});
  return at::zeros({B, num_experts}, ones.options())
      .scatter_add_(1, experts.view({B, T * C}), ones);
}

torch::Tensor sequence_balance_loss(const torch::Tensor& scores, const torch::Tensor& counted,
                                    const torch::Tensor& loads) {
  // A token's C choices add up to C; a row of padding alone has length zero and loss zero.
  auto lengths = counted.sum(1, /*keepdim=*/true).clamp_min(1).to(scores.scalar_type());
  auto total = loads.sum(1, /*keepdim=*/true).clamp_min(1).to(scores.scalar_type());
  auto share = loads.to(scores.scalar_type()) * (static_cast<double>(scores.size(1)) / total);
  auto normalised = scores / scores.sum(-1, /*keepdim=*/true);
  auto mean = (normalised.unflatten(0, counted.sizes()) * counted.unsqueeze(-1)).sum(1) / lengths;
  return (share * mean).sum();
}

}  // namespace deepseek_train::models
