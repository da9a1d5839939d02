#include "deepseek_train/models/rms_norm.h"

#include "deepseek_train/ops/fused.h"

namespace deepseek_train::models {

RmsNorm::RmsNorm(int64_t size, double eps, torch::Device device) : eps_(eps) {
  weight = register_parameter("weight", torch::ones({size}, device));
}

torch::Tensor RmsNorm::forward(const torch::Tensor& hidden, Numerics numerics) {
  if (numerics == Numerics::kFast) return ops::rms_norm(hidden, weight, eps_);
  auto wide = hidden.to(at::kFloat);
  auto variance = wide.pow(2).mean(-1, /*keepdim=*/true);
  return weight.to(hidden.scalar_type()) *
         (wide * torch::rsqrt(variance + eps_)).to(hidden.scalar_type());
}

}  // namespace deepseek_train::models
