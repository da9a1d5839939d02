// DeepSeek's MLP layers: a router, many small experts, and shared ones that every token passes.
//
// Shape letters: N tokens of all rows, D hidden, X experts, C experts chosen by a token.
#pragma once

#include "deepseek_train/models/blocks.h"
#include "src/models/dense_blocks.h"

namespace deepseek_train::models {

// Which experts a token goes to, and with what weight. Scores are computed in float32 whatever the
// model's dtype.
class Router final : public torch::nn::Module {
 public:
  explicit Router(const BlockSite& site);

  struct Choice {
    torch::Tensor experts;  // [N, C] int64, in no order
    torch::Tensor weights;  // [N, C] fp32
    torch::Tensor scores;   // [N, X] fp32: each expert's affinity before any choice
  };
  Choice forward(const torch::Tensor& hidden_ND);

  // The bias stays float32: converted to bfloat16 it would change which experts are chosen.
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  using torch::nn::Module::to;

  torch::Tensor weight;  // [X, D]
  // [X] fp32, a buffer: added to the score for choosing only. Undefined for softmax routers.
  torch::Tensor e_score_correction_bias;

 private:
  torch::Tensor best_groups_mask(const torch::Tensor& scores) const;

  MoeConfig moe_;
};

class MixtureOfExperts final : public MlpBlock {
 public:
  explicit MixtureOfExperts(const BlockSite& site);
  // Experts are added up in ascending order of their numbers, as Hugging Face does.
  torch::Tensor forward(const torch::Tensor& hidden, const ForwardContext& context) override;

  Router& router() { return *gate_; }

 private:
  torch::Tensor run_experts(const torch::Tensor& hidden_ND, const Router::Choice& choice,
                            const torch::Tensor& loads, Numerics numerics);

  MoeConfig moe_;
  std::shared_ptr<Router> gate_;
  std::vector<std::shared_ptr<SwiGluMlp>> experts_;
  std::shared_ptr<SwiGluMlp> shared_experts_;  // null without
};

// DeepSeek-V2's and V3's sequence-wise balance loss, before alpha: for each sequence the sum over
// the experts of f * P, where f is the share of tokens that chose the expert times X / C, and P its
// mean normalised score; summed over the sequences. `scores` [B * T, X], `experts` [B * T, C].
torch::Tensor sequence_balance_loss(const torch::Tensor& scores, const torch::Tensor& experts,
                                    int64_t num_sequences);

}  // namespace deepseek_train::models
