// The product of a frozen matrix and a low-rank one beside it.
#pragma once

#include <torch/torch.h>

#include <memory>

#include "deepseek_train/ops/linear.h"

namespace deepseek_train::tuning {

struct LowRank {
  torch::Tensor a;  // [R, K] fp32
  torch::Tensor b;  // [N, R] fp32
  double scale = 1;
};

// base(x) + scale * (x A^T) B^T: [..., K] -> [..., N] in x's dtype, as one step of autograd. The
// low-rank part is added in place, in both directions, so that no second [M, N] or [M, K] is ever
// made; the base gets no gradient. Of the base nothing is kept for backward but the method itself:
// a quantized one gives its matrix anew. Gradients of A and B are float32.
torch::Tensor low_rank_linear(const torch::Tensor& input,
                              const std::shared_ptr<ops::LinearMethod>& base,
                              const torch::Tensor& weight, const torch::Tensor& bias,
                              const LowRank& adapter);

}  // namespace deepseek_train::tuning
