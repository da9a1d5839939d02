#include "deepseek_train/quantization/torch/fake_quantize.h"

#include "deepseek_train/core/error.h"
#include "quantization/torch/fake_quantize_rows.h"

namespace deepseek_train::quantization {
namespace {

bool is_compute_dtype(torch::ScalarType dtype) {
  return dtype == torch::kFloat32 || dtype == torch::kBFloat16;
}

// Forward: rounded rows. Backward: the gradient as it comes, in the input's dtype.
class StraightThrough : public torch::autograd::Function<StraightThrough> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                               torch::ScalarType output_dtype) {
    context->saved_data["dtype"] = x.scalar_type();
    const torch::Tensor rows = x.contiguous();
    return x.is_cpu() ? fake_quantize_rows_cpu(rows, output_dtype)
                      : fake_quantize_rows_eager(rows, output_dtype);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    return {gradients[0].to(context->saved_data["dtype"].toScalarType()), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor fake_quantize_channels(const torch::Tensor& weight, torch::ScalarType compute_dtype) {
  DST_CHECK(weight.dim() == 2 && weight.scalar_type() == torch::kFloat32,
            "fake_quantize_channels got ", c10::toString(weight.scalar_type()), " of shape ",
            weight.sizes().vec(), "; wanted the fp32 master weight [N, K]");
  DST_CHECK(is_compute_dtype(compute_dtype), "fake_quantize_channels to ",
            c10::toString(compute_dtype), "; wanted fp32 or bf16");
  return StraightThrough::apply(weight, compute_dtype);
}

torch::Tensor fake_quantize_tokens(const torch::Tensor& x) {
  DST_CHECK(x.dim() > 0 && is_compute_dtype(x.scalar_type()), "fake_quantize_tokens got ",
            c10::toString(x.scalar_type()), " of shape ", x.sizes().vec(),
            "; wanted fp32 or bf16 [..., K]");
  return StraightThrough::apply(x, x.scalar_type());
}

FakeQuantizedLinearMethod::FakeQuantizedLinearMethod(const QuantizationScheme& scheme)
    : scheme_name_(scheme.name) {
  const QuantizationScheme known = w8a8();
  DST_CHECK(scheme.weights == known.weights && scheme.input_activations == known.input_activations,
            "scheme '", scheme.name, "' cannot be trained; known schemes: ", scheme_names());
}

torch::Tensor FakeQuantizedLinearMethod::apply(const torch::Tensor& input,
                                               const torch::Tensor& weight,
                                               const torch::Tensor& bias) {
  DST_CHECK(weight.defined(), "fake quantization needs the master weight, but it was released");
  const auto dtype = input.scalar_type();
  return at::linear(fake_quantize_tokens(input), fake_quantize_channels(weight, dtype),
                    bias.defined() ? bias.to(dtype) : bias);
}

}  // namespace deepseek_train::quantization
