// The tables of rotary positions, with every scaling that checkpoints ask for.
#pragma once

#include <torch/torch.h>

#include "deepseek_train/models/model_config.h"

namespace deepseek_train::models {

class RotaryEmbedding {
 public:
  explicit RotaryEmbedding(const ModelConfig& config);

  // cos and sin of int64 `positions` of any shape: [..., E] in `dtype`, angles in float32.
  std::pair<torch::Tensor, torch::Tensor> tables(const torch::Tensor& positions,
                                                 at::ScalarType dtype) const;

  const torch::Tensor& inverse_frequencies() const { return inverse_frequencies_; }
  double attention_factor() const { return attention_factor_; }

 private:
  torch::Tensor inverse_frequencies_;  // [E / 2] fp32
  double attention_factor_ = 1;        // cos and sin are multiplied by it
};

// YaRN's magnitude: 0.1 * mscale * ln(factor) + 1.
double yarn_mscale(double factor, double mscale);

}  // namespace deepseek_train::models
