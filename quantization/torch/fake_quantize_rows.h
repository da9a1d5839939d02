// Fake quantization without gradient. x [..., K] fp32 or bf16, contiguous; one scale for each row
// of K values.
#pragma once

#include <ATen/core/Tensor.h>

namespace deepseek_train::quantization {

// By the engine's kernels. fp32 to fp32 or bf16, bf16 to bf16.
at::Tensor fake_quantize_rows_cpu(const at::Tensor& x, at::ScalarType output_dtype);

// By libtorch operations, on any device.
at::Tensor fake_quantize_rows_eager(const at::Tensor& x, at::ScalarType output_dtype);

}  // namespace deepseek_train::quantization
