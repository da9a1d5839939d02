#include <torch/torch.h>

#include <limits>

#include "deepseek_train/quantization/int8.h"
#include "quantization/torch/fake_quantize_rows.h"

namespace deepseek_train::quantization {

at::Tensor fake_quantize_rows_eager(const at::Tensor& x, at::ScalarType output_dtype) {
  if (x.numel() == 0) return at::empty(x.sizes(), x.options().dtype(output_dtype));
  const at::Tensor wide = x.to(at::kFloat);
  at::Tensor scale = wide.abs().amax(-1, /*keepdim=*/true).div_(kInt8HalfRange);
  scale.masked_fill_(scale == 0, std::numeric_limits<float>::epsilon());
  // The added zero is level_of's in row_loops.h.
  return wide.div(scale).add_(0.0).clamp_(-128, 127).round_().mul_(scale).to(output_dtype);
}

}  // namespace deepseek_train::quantization
