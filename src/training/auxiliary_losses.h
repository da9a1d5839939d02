// What a step of a mixture of experts minimises beside its loss: the routers' sequence-wise balance
// losses and the multi-token prediction loss (DeepSeek-V3, arXiv 2412.19437, sections 2.1.2, 2.2).
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <vector>

#include "deepseek_train/collectives/communicator.h"
#include "deepseek_train/data/batch.h"
#include "deepseek_train/training/causal_lm.h"

namespace deepseek_train::training {

struct AuxiliaryWeights {
  double router_aux_loss_coef = 0;  // alpha, of the balance losses' mean over sequences
  double mtp_loss_weight = 0;       // lambda, of the mean over layers of their mean over labels
};

// The auxiliary losses of one step. For each micro-batch: give observed() to the loss in place of
// the model, then add term() to it before the backward pass. Dense models cost nothing.
class AuxiliaryLosses {
 public:
  AuxiliaryLosses(CausalLm& model, const AuxiliaryWeights& weights);

  // What the terms are divided by, of these micro-batches: sequences, then the labels of each
  // multi-token prediction layer. To be summed over the ranks and given back.
  std::vector<int64_t> counts(const std::vector<data::Batch>& batches) const;
  void set_global_counts(std::vector<int64_t> counts) { counts_ = std::move(counts); }

  // The model; its next forward pass, of `batch`, is kept for term().
  CausalLm& observed(const data::Batch& batch);
  // A scalar with gradient, weighted and divided by the global counts; undefined if there is none.
  torch::Tensor term(const data::Batch& batch);

  // After the last micro-batch: the loads of the global batch by layer. Collective.
  std::map<int64_t, torch::Tensor> global_loads(collectives::Communicator& communicator) const;
  // This rank's shares of the unweighted losses: their sums over the ranks are the losses.
  double balance_share() const { return balance_share_; }
  double mtp_share() const { return mtp_share_; }

 private:
  // Does as the model does, and remembers.
  class Observer final : public CausalLm {
   public:
    explicit Observer(CausalLm& model) : model_(model) {}
    torch::nn::Module& module() override { return model_.module(); }
    torch::Tensor hidden_states(const torch::Tensor& input_ids) override;
    torch::Tensor logits(const torch::Tensor& hidden) override { return model_.logits(hidden); }
    RoutingRecord routing;
    torch::Tensor hidden;

   private:
    CausalLm& model_;
  };

  torch::Tensor balance_term();
  torch::Tensor mtp_term(const data::Batch& batch);
  void add_loads();

  CausalLm& model_;
  AuxiliaryWeights weights_;
  Observer observer_;
  std::vector<int64_t> counts_;
  std::map<int64_t, torch::Tensor> loads_;
  double balance_share_ = 0, mtp_share_ = 0;
};

}  // namespace deepseek_train::training
