#include "deepseek_train/ops/linear.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>

#include "deepseek_train/core/error.h"
#include "src/ops/cpu/matvec.h"

namespace deepseek_train::ops {
namespace {

// Decoding multiplies one row: no gradient, and nothing to win from a matrix product's blocking.
bool is_one_row(const torch::Tensor& input, const torch::Tensor& weight) {
  return input.numel() == input.size(-1) && !torch::GradMode::is_enabled() &&
         input.device().is_cpu() && weight.is_contiguous() &&
         (weight.scalar_type() == at::kFloat || weight.scalar_type() == at::kBFloat16);
}

// input [..., K] of one row, weight [N, K] of the same dtype -> [..., N].
torch::Tensor one_row(const torch::Tensor& input, const torch::Tensor& weight) {
  const auto N = weight.size(0), K = weight.size(1);
  auto x = input.to(at::kFloat).contiguous();
  auto shape = input.sizes().vec();
  shape.back() = N;
  auto y = torch::empty(shape, at::kFloat);
  const auto* x_data = x.const_data_ptr<float>();
  auto* y_data = y.data_ptr<float>();
  constexpr int64_t kBytesOfAThread = 128 << 10;
  const auto grain = std::max<int64_t>(1, kBytesOfAThread / (K * weight.element_size()));
  at::parallel_for(0, N, grain, [&](int64_t begin, int64_t end) {
    if (weight.scalar_type() == at::kFloat) {
      matvec(weight.const_data_ptr<float>() + begin * K, x_data, end - begin, K, y_data + begin);
    } else {
      const auto* rows = static_cast<const bfloat16_bits*>(weight.const_data_ptr());
      matvec(rows + begin * K, x_data, end - begin, K, y_data + begin);
    }
  });
  return y.to(input.scalar_type());
}

class DenseLinearMethod : public LinearMethod {
 public:
  torch::Tensor apply(const torch::Tensor& input, const torch::Tensor& weight,
                      const torch::Tensor& bias) override {
    DST_CHECK(weight.defined(), "the dense method needs the weight, but it was released; ",
              "set a method that holds packed weights, or keep the weight");
    const auto dtype = input.scalar_type();
    if (weight.scalar_type() == dtype && is_one_row(input, weight)) {
      auto product = one_row(input, weight);
      return bias.defined() ? product + bias.to(dtype) : product;
    }
    return at::linear(input, weight.to(dtype), bias.defined() ? bias.to(dtype) : bias);
  }

  std::string name() const override { return "dense"; }
};

}  // namespace

torch::Tensor LinearMethod::dense_weight(const torch::Tensor& weight, at::ScalarType dtype) {
  DST_CHECK(
      weight.defined(), "a linear layer computed as \"", name(),
      "\" has no floating-point weight; leave it out of the quantization (ignore) or load the "
      "floating-point model");
  return weight.to(dtype);
}

std::shared_ptr<LinearMethod> dense_linear_method() {
  static const auto method = std::make_shared<DenseLinearMethod>();  // stateless: one for all
  return method;
}

Linear::Linear(const LinearOptions& options) : options_(options), method_(dense_linear_method()) {
  DST_CHECK(options.in_features > 0 && options.out_features > 0, "a Linear of ",
            options.in_features, " -> ", options.out_features,
            " features; both must be positive: check the sizes in the model's config.json");
  weight = register_parameter(
      "weight", torch::empty({options.out_features, options.in_features}, options.device));
  if (options.bias)
    bias = register_parameter("bias", torch::zeros({options.out_features}, options.device));
}

void Linear::reset_parameters(double std) {
  torch::NoGradGuard no_grad;
  DST_CHECK(weight.defined(), "reset_parameters on a Linear whose weight was released");
  weight.normal_(0.0, std);
  if (bias.defined()) bias.zero_();
}

torch::Tensor Linear::forward(const torch::Tensor& input) {
  DST_CHECK(input.dim() > 0 && input.size(-1) == options_.in_features, "a Linear got ",
            input.dim() > 0 ? input.size(-1) : 0, " input features and has weights for ",
            options_.in_features);
  return method_->apply(input, weight, bias);
}

void Linear::set_method(std::shared_ptr<LinearMethod> method) {
  DST_CHECK(method != nullptr,
            "set_method(nullptr); pass dense_linear_method() for the plain product");
  method_ = std::move(method);
}

void Linear::share_weight(const torch::Tensor& other) {
  DST_CHECK(other.dim() == 2 && other.size(0) == options_.out_features &&
                other.size(1) == options_.in_features,
            "share_weight got a tensor of shape ", other.sizes().vec(), ", wanted [",
            options_.out_features, ", ", options_.in_features, "]");
  unregister_weight();
  weight = other;
}

void Linear::release_weight() {
  unregister_weight();
  weight = torch::Tensor();
}

void Linear::unregister_weight() {
  // OrderedDict::erase leaves stale positions for the keys behind the erased one, so the dictionary
  // is rebuilt.
  parameters_.clear();
  if (bias.defined()) parameters_.insert("bias", bias);
}

void Linear::pretty_print(std::ostream& stream) const {
  stream << "Linear(" << options_.in_features << " -> " << options_.out_features
         << (options_.bias ? ", bias" : "") << ", " << method_->name() << ")";
}

}  // namespace deepseek_train::ops
