// The models' class, seen as the trainer sees it.
#pragma once

#include "deepseek_train/models/transformer.h"
#include "deepseek_train/training/causal_lm.h"

namespace deepseek_train::tuning {

// Borrows the model.
class TrainedModel final : public training::CausalLm {
 public:
  explicit TrainedModel(models::Transformer& model) : model_(model) {}

  torch::nn::Module& module() override { return model_; }
  torch::Tensor hidden_states(const torch::Tensor& input_ids) override {
    return model_.hidden_states(input_ids);
  }
  torch::Tensor logits(const torch::Tensor& hidden) override { return model_.logits(hidden); }

  std::map<int64_t, int64_t> expert_layers() const override;
  torch::Tensor routed_hidden_states(const torch::Tensor& input_ids,
                                     training::RoutingRecord& routing) override;
  void balance_experts(const std::map<int64_t, torch::Tensor>& loads, double gamma) override {
    model_.balance_experts(loads, gamma);
  }
  int64_t num_mtp_layers() const override { return model_.config().num_nextn_predict_layers; }
  torch::Tensor mtp_hidden_states(int64_t depth, const torch::Tensor& hidden,
                                  const torch::Tensor& input_ids,
                                  training::RoutingRecord& routing) override;

 private:
  models::Transformer& model_;
};

}  // namespace deepseek_train::tuning
