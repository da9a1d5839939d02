// What a recipe means for a mixture of experts.
#pragma once

#include <string>
#include <vector>

#include "deepseek_train/models/transformer.h"
#include "deepseek_train/training/trainer.h"
#include "deepseek_train/tuning/recipe.h"

namespace deepseek_train::tuning {

// Sets the trainer's options of mixtures of experts from the recipe and the model's config. Returns
// what the user should know, a line each: a balance loss that is off because config.json does not
// ask for it, biases that stay frozen. Throws InvalidArgument for a key that this model cannot
// follow.
std::vector<std::string> set_mixture_options(training::TrainerOptions& options,
                                             const TrainingRecipe& recipe,
                                             const models::ModelConfig& config);

// Takes the multi-token prediction layers out of the training: without a loss of their own, weight
// decay alone would wear them down.
void freeze_mtp_layers(models::Transformer& model);

}  // namespace deepseek_train::tuning
