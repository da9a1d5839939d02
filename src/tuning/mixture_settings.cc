#include "src/tuning/mixture_settings.h"

#include "deepseek_train/core/error.h"

namespace deepseek_train::tuning {

std::vector<std::string> set_mixture_options(training::TrainerOptions& options,
                                             const TrainingRecipe& recipe,
                                             const models::ModelConfig& config) {
  DST_CHECK(
      config.moe || (recipe.router_aux_loss_coef.value_or(0) == 0 && recipe.bias_update_speed == 0),
      "the recipe sets router_aux_loss_coef or bias_update_speed, but the model has no "
      "experts; remove them");
  options.mtp_loss_weight = config.num_nextn_predict_layers > 0 ? recipe.mtp_loss_weight : 0;
  if (!config.moe) return {};
  const bool biased = config.moe->router == models::RouterKind::kSigmoidBiased;
  DST_CHECK(biased || recipe.bias_update_speed == 0, "the recipe sets bias_update_speed ",
            recipe.bias_update_speed,
            ", but the routers of this architecture have no bias; use router_aux_loss_coef");
  options.router_aux_loss_coef = recipe.router_aux_loss_coef.value_or(config.moe->aux_loss_alpha);
  options.bias_update_speed = recipe.bias_update_speed;
  std::vector<std::string> notes;
  if (options.router_aux_loss_coef > 0) {
    notes.push_back(concat("balance loss of the experts: weight ", options.router_aux_loss_coef));
  } else if (!recipe.router_aux_loss_coef) {
    notes.push_back(
        "no balance loss of the experts: config.json has no aux_loss_alpha, as released "
        "DeepSeek-V3 "
        "configs have none; set training.router_aux_loss_coef (0.0001 in the paper) to have one");
  }
  if (biased && options.bias_update_speed == 0)
    notes.push_back(
        "the routers' biases stay frozen; training.bias_update_speed (0.001 in the paper) moves "
        "them");
  return notes;
}

void freeze_mtp_layers(models::Transformer& model) {
  const auto N = model.config().num_hidden_layers;
  for (int64_t i = N; i < N + model.config().num_nextn_predict_layers; ++i)
    for (auto& item : model.named_parameters())
      if (item.key().starts_with(concat("model.layers.", i, ".")))
        item.value().requires_grad_(false);
}

}  // namespace deepseek_train::tuning
