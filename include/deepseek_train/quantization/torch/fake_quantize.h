// Fake quantization: values rounded to what INT8 can hold while they stay floating point, so that
// training meets the rounding error of the deployed model (quantization-aware training, arXiv
// 1712.05877). Shapes: N output channels, K input features.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <string>

#include "deepseek_train/ops/linear.h"
#include "deepseek_train/quantization/scheme.h"

namespace deepseek_train::quantization {

// The arithmetic is int8.h's, with one scale per row; the gradient passes straight through (arXiv
// 1308.3432). Nothing is ever clipped by a scale made from the row's own absmax, so no gradient is
// masked. On the CPU each reads its input once and writes its output once, rows divided over
// libtorch's threads; on other devices they are a chain of libtorch operations with the same
// result. Thread-safe.

// weight [N, K] fp32 -> [N, K] fp32 or bf16, one scale per output channel. Its gradient arrives as
// fp32.
torch::Tensor fake_quantize_channels(const torch::Tensor& weight, torch::ScalarType compute_dtype);

// x [..., K] fp32 or bf16 -> the same shape and type, one scale per token.
torch::Tensor fake_quantize_tokens(const torch::Tensor& x);

// linear(fake_quantize_tokens(input), fake_quantize_channels(weight)): what QAT trains through.
// Stateless: one object serves every layer. Each call quantizes the weight anew (6 bytes of memory
// traffic for each value in bf16), so it is never stale.
class FakeQuantizedLinearMethod : public ops::LinearMethod {
 public:
  // Throws InvalidArgument for a scheme other than w8a8.
  explicit FakeQuantizedLinearMethod(const QuantizationScheme& scheme);
  torch::Tensor apply(const torch::Tensor& input, const torch::Tensor& weight,
                      const torch::Tensor& bias) override;
  std::string name() const override { return "fake-quantized " + scheme_name_; }

 private:
  std::string scheme_name_;
};

}  // namespace deepseek_train::quantization
