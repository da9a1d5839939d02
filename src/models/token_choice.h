#pragma once

#include <torch/torch.h>

#include <vector>

#include "deepseek_train/models/generate.h"

namespace deepseek_train::models {

// Picks each row's next token: greedily, or drawn by temperature and top-p.
class TokenChoice {
 public:
  TokenChoice(const GenerateOptions& options, size_t num_rows);
  // logits [B, 1, V] -> [B, 1] int64, on the logits' device.
  torch::Tensor operator()(const torch::Tensor& logits);

 private:
  torch::Tensor draw(const torch::Tensor& probabilities, at::Generator& generator) const;

  double temperature_, top_p_;
  std::vector<at::Generator> generators_;
};

}  // namespace deepseek_train::models
