#include "deepseek_train/quantization/torch/frozen_linear.h"

#include <ATen/Parallel.h>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/nf4.h"
#include "deepseek_train/quantization/torch/int8_linear.h"
#include "quantization/torch/linears.h"

namespace deepseek_train::quantization {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What autograd's context can carry of a method.
struct Holder final : torch::CustomClassHolder {
  explicit Holder(std::shared_ptr<ops::LinearMethod> held) : method(std::move(held)) {}
  std::shared_ptr<ops::LinearMethod> method;
};

class FrozenProduct final : public torch::autograd::Function<FrozenProduct> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& input,
                               const std::optional<torch::Tensor>& bias,
                               const std::shared_ptr<FrozenLinearMethod>& method) {
    context->saved_data["method"] = c10::IValue::make_capsule(c10::make_intrusive<Holder>(method));
    const auto dtype = input.scalar_type();
    return at::linear(input, method->dense_weight({}, dtype),
                      bias ? std::optional(bias->to(dtype)) : std::nullopt);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    auto holder =
        c10::static_intrusive_pointer_cast<Holder>(context->saved_data["method"].toCapsule());
    const auto& g = gradients[0];
    return {at::matmul(g, holder->method->dense_weight({}, g.scalar_type())), {}, {}};
  }
};

BFloat16* values_of(const torch::Tensor& tensor) {
  return reinterpret_cast<BFloat16*>(tensor.mutable_data_ptr<at::BFloat16>());
}

class Nf4LinearMethod final : public FrozenLinearMethod {
 public:
  Nf4LinearMethod(const torch::Tensor& weight, bool compress_scales)
      : out_features_(weight.size(0)), in_features_(weight.size(1)) {
    auto values = weight.detach().to(at::kFloat).contiguous();
    const auto count = static_cast<size_t>(values.numel());
    packed_.resize((count + 1) / 2);
    absmax_.resize(static_cast<size_t>(nf4_blocks(values.numel())));
    quantize_nf4({values.const_data_ptr<float>(), count}, packed_, absmax_);
    if (!compress_scales) return;
    scales_ = compress_nf4_scales(absmax_);
    absmax_ = {};
  }

  std::string name() const override {
    return scales_.codes.empty() ? "frozen nf4" : "frozen nf4 with 8-bit scales";
  }
  int64_t size_bytes() const override {
    return static_cast<int64_t>(packed_.size() + scales_.codes.size() +
                                sizeof(float) * (absmax_.size() + scales_.absmax.size()));
  }

 protected:
  torch::Tensor dequantize(at::ScalarType dtype) const override {
    auto output = torch::empty({out_features_, in_features_}, dtype);
    constexpr int64_t kBlocksAtOnce = 1024;
    at::parallel_for(0, nf4_blocks(output.numel()), kBlocksAtOnce, [&](int64_t begin, int64_t end) {
      std::vector<float> expanded;
      const float* absmax = absmax_.data() + begin;
      if (!scales_.codes.empty()) {
        expanded.resize(static_cast<size_t>(end - begin));
        expand_nf4_scales(scales_, begin, end, expanded.data());
        absmax = expanded.data();
      }
      if (dtype == at::kBFloat16) {
        dequantize_nf4(packed_.data(), absmax, begin, end, output.numel(), values_of(output));
      } else {
        dequantize_nf4(packed_.data(), absmax, begin, end, output.numel(),
                       output.mutable_data_ptr<float>());
      }
    });
    return output;
  }

 private:
  int64_t out_features_, in_features_;
  std::vector<uint8_t> packed_;
  std::vector<float> absmax_;  // empty with compressed scales
  Nf4Scales scales_;
};

class Int8FrozenLinearMethod final : public FrozenLinearMethod {
 public:
  explicit Int8FrozenLinearMethod(const torch::Tensor& weight)
      : packed_(quantize_channels(weight.detach().to(at::kFloat))) {}

  std::string name() const override { return "frozen int8"; }
  int64_t size_bytes() const override {
    return static_cast<int64_t>(packed_.values.nbytes() + packed_.scales.nbytes());
  }

 protected:
  // A mixed product is computed in the scales' type and rounded once.
  torch::Tensor dequantize(at::ScalarType dtype) const override {
    auto output = torch::empty(packed_.values.sizes(), dtype);
    return at::mul_out(output, packed_.values, packed_.scales);
  }

 private:
  Int8Weight packed_;
};

}  // namespace

torch::Tensor FrozenLinearMethod::apply(const torch::Tensor& input, const torch::Tensor&,
                                        const torch::Tensor& bias) {
  // Autograd wants its arguments defined or absent.
  const auto optional_bias = bias.defined() ? std::optional(bias) : std::nullopt;
  return FrozenProduct::apply(input, optional_bias, shared_from_this());
}

torch::Tensor FrozenLinearMethod::dense_weight(const torch::Tensor&, at::ScalarType dtype) {
  DST_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "a ", name(), " layer computes in ",
            "float32 or bfloat16, not ", c10::toString(dtype));
  return dequantize(dtype);
}

FrozenFormat frozen_format_by_name(std::string_view name) {
  if (name == "nf4") return FrozenFormat::kNf4;
  if (name == "nf4-double") return FrozenFormat::kNf4Double;
  DST_CHECK(name == "int8", "\"", name, "\" is no format of frozen weights; there are nf4, ",
            "nf4-double and int8");
  return FrozenFormat::kInt8;
}

std::shared_ptr<FrozenLinearMethod> make_frozen_linear(const torch::Tensor& weight,
                                                       FrozenFormat format) {
  DST_CHECK(weight.defined() && weight.dim() == 2, "a frozen linear layer needs a weight [N, K]");
  if (format == FrozenFormat::kInt8) return std::make_shared<Int8FrozenLinearMethod>(weight);
  return std::make_shared<Nf4LinearMethod>(weight, format == FrozenFormat::kNf4Double);
}

FrozenModel freeze_linears(torch::nn::Module& root, FrozenFormat format,
                           const std::vector<std::string>& ignore) {
  FrozenModel model;
  for (auto& [name, linear] : chosen_linears(root, ignore)) {
    DST_CHECK(linear->has_weight(), name, " has no weight to pack; it is computed as ",
              linear->method()->name());
    auto method = make_frozen_linear(linear->weight, format);
    model.size_bytes += method->size_bytes();
    linear->set_method(std::move(method));
    linear->release_weight();
    model.names.push_back(name);
  }
  return model;
}

}  // namespace deepseek_train::quantization
