// What the readers of a configuration share.
#pragma once

#include "deepseek_train/models/model_config.h"

namespace deepseek_train::models {

// Throws InvalidArgument naming the first value that no model can have.
void check_shape(const ModelConfig& config);

}  // namespace deepseek_train::models
