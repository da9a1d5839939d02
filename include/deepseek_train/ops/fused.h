// Operations between the matrix products, each as one pass over memory in both directions: on CPUs
// they cost as much as a product when they are chains of small operations. All compute in float32
// and round once. CPU tensors of float32 or bfloat16 take the fused kernels (AVX-512 or AVX2 where
// the processor has them, chosen at run time; threads: libtorch's); others take the same chain of
// libtorch operations. Results do not depend on the number of threads. Thread-safe.
#pragma once

#include <torch/torch.h>

namespace deepseek_train::ops {

// x / sqrt(mean(x^2) + eps) * weight over the last axis (arXiv 1910.07467): x [..., D], weight [D]
// of any floating type. Kept for backward: x and one float a row.
torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps);

// silu(gate) * up (arXiv 2002.05202), same shapes and types. Kept for backward: the two inputs.
torch::Tensor swiglu(const torch::Tensor& gate, const torch::Tensor& up);

// Rotary embedding (arXiv 2104.09864) of the pairs (i, i + E/2): x [B, H, T, E] of any strides with
// the last axis dense, cos and sin [T, E] without gradients, of which the first halves count. The
// result has x's strides. Kept for backward: the tables.
torch::Tensor rotate_halves(const torch::Tensor& x, const torch::Tensor& cos,
                            const torch::Tensor& sin);

}  // namespace deepseek_train::ops
