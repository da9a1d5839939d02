#pragma once

#include <torch/torch.h>

#include <vector>

#include "deepseek_train/data/batch.h"

namespace deepseek_train::training {

// The batch's values as a tensor [B, T] int64; borrowed.
torch::Tensor as_tensor(const data::Batch& batch, const std::vector<int64_t>& values);

}  // namespace deepseek_train::training
