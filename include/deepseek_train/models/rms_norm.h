#pragma once

#include <torch/torch.h>

#include "deepseek_train/models/blocks.h"

namespace deepseek_train::models {

// Root mean square normalisation over the last axis (Zhang and Sennrich 2019, arXiv 1910.07467):
// computed in float32. kReference rounds to the input's dtype, then multiplies by the weight, as
// Hugging Face does; kFast rounds once at the end.
class RmsNorm : public torch::nn::Module {
 public:
  RmsNorm(int64_t size, double eps, torch::Device device);
  torch::Tensor forward(const torch::Tensor& hidden, Numerics numerics);

  torch::Tensor weight;  // [size] fp32

 private:
  double eps_;
};

}  // namespace deepseek_train::models
