// The products of many small experts at once, on the CPU.
#pragma once

#include <torch/torch.h>

#include <vector>

namespace deepseek_train::models {

// The plain weights of one SwiGLU expert: gate and up [I, D], down [D, I].
struct ExpertWeights {
  torch::Tensor gate, up, down;
};

// rows [R, D] in the order of experts, of which expert e has counts[e] -> [R, D], each row through
// its expert: down(silu(gate(x)) * up(x)), in the rows' dtype (weights are cast to it, their
// gradients come back in their own). Differentiable once. Where there are many experts for the
// threads, each runs on one thread, so that its weights stay in that core's cache; else the
// threads share each product. The sums are the same either way. Keeps rows and 2 * R * I elements
// for the backward pass.
torch::Tensor grouped_swiglu(const torch::Tensor& rows, const std::vector<int64_t>& counts,
                             const std::vector<ExpertWeights>& experts);

}  // namespace deepseek_train::models
