#include "deepseek_train/quantization/torch/qat.h"

#include <utility>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/torch/fake_quantize.h"
#include "quantization/torch/linears.h"

namespace deepseek_train::quantization {

std::vector<std::string> prepare_qat(torch::nn::Module& root, const QuantizationScheme& scheme,
                                     const std::vector<std::string>& ignore) {
  const auto method = std::make_shared<FakeQuantizedLinearMethod>(scheme);
  std::vector<std::string> names;
  for (auto& [name, linear] : chosen_linears(root, ignore)) {
    DST_CHECK(linear->has_weight(), name, " has no fp32 weight to train; it was converted to ",
              linear->method()->name());
    linear->set_method(method);
    names.push_back(name);
  }
  return names;
}

void remove_qat(torch::nn::Module& root) {
  for (auto& [name, linear] : linears_of(root)) {
    if (std::dynamic_pointer_cast<FakeQuantizedLinearMethod>(linear->method())) {
      linear->set_method(ops::dense_linear_method());
    }
  }
}

Int8Model convert(torch::nn::Module& root, const QuantizationScheme& scheme,
                  const std::vector<std::string>& ignore) {
  DST_CHECK(scheme == w8a8(), "cannot convert to scheme '", scheme.name,
            "'; known schemes: ", scheme_names());
  Int8Model model{.counter = std::make_shared<Int8ProductCounter>()};
  for (auto& [name, linear] : chosen_linears(root, ignore)) {
    DST_CHECK(linear->has_weight(), name, " has no fp32 weight; was the model converted before?");
    const Int8Weight weight = quantize_channels(linear->weight);
    set_int8_weight(*linear, weight.values, weight.scales, model.counter);
    model.names.push_back(name);
    model.kernel = linear->method()->name();
  }
  return model;
}

void set_int8_weight(ops::Linear& linear, const torch::Tensor& weight, const torch::Tensor& scale,
                     std::shared_ptr<Int8ProductCounter> counter) {
  DST_CHECK(weight.dim() == 2 && weight.size(0) == linear.out_features() &&
                weight.size(1) == linear.in_features(),
            "an INT8 weight of shape ", weight.sizes().vec(), " does not fit a Linear, wanted [",
            linear.out_features(), ", ", linear.in_features(), "]");
  linear.set_method(std::make_shared<Int8LinearMethod>(weight, scale, std::move(counter)));
  linear.release_weight();
}

}  // namespace deepseek_train::quantization
