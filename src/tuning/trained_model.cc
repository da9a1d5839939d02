#include "src/tuning/trained_model.h"

namespace deepseek_train::tuning {
namespace {

void append(training::RoutingRecord& to, models::RoutingRecord& from) {
  to.balance_losses.merge(from.balance_losses);
  to.loads.merge(from.loads);
}

}  // namespace

std::map<int64_t, int64_t> TrainedModel::expert_layers() const {
  const auto& config = model_.config();
  std::map<int64_t, int64_t> layers;
  if (!config.mlp_block.empty()) return layers;  // a user's own
  for (int64_t i = 0; i < config.num_hidden_layers + config.num_nextn_predict_layers; ++i)
    if (config.uses_experts(i)) layers[i] = config.moe->n_routed_experts;
  return layers;
}

torch::Tensor TrainedModel::routed_hidden_states(const torch::Tensor& input_ids,
                                                 training::RoutingRecord& routing) {
  models::RoutingRecord record;
  record.counted = routing.counted;
  auto hidden = model_.hidden_states(input_ids, &record);
  append(routing, record);
  return hidden;
}

torch::Tensor TrainedModel::mtp_hidden_states(int64_t depth, const torch::Tensor& hidden,
                                              const torch::Tensor& input_ids,
                                              training::RoutingRecord& routing) {
  models::RoutingRecord record;
  record.counted = routing.counted;
  auto next = model_.mtp_hidden_states(depth, hidden, input_ids, &record);
  append(routing, record);
  return next;
}

}  // namespace deepseek_train::tuning
