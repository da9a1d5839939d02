#include "deepseek_train/quantization/torch/qat.h"

#include <utility>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/compressed_tensors.h"
#include "deepseek_train/quantization/torch/fake_quantize.h"

namespace deepseek_train::quantization {
namespace {

struct NamedLinear {
  std::string name;
  std::shared_ptr<ops::Linear> linear;
};

std::vector<NamedLinear> linears_of(torch::nn::Module& root) {
  std::vector<NamedLinear> found;
  for (const auto& entry : root.named_modules(/*name_prefix=*/"", /*include_self=*/false)) {
    if (auto linear = std::dynamic_pointer_cast<ops::Linear>(entry.value()))
      found.push_back({entry.key(), linear});
  }
  return found;
}

std::vector<NamedLinear> linears_to_quantize(torch::nn::Module& root,
                                             const QuantizationScheme& scheme,
                                             const std::vector<std::string>& ignore) {
  const CompressedTensorsConfig config{.scheme = scheme, .ignore = ignore};
  std::vector<NamedLinear> chosen;
  for (NamedLinear& entry : linears_of(root)) {
    if (!is_ignored(config, entry.name)) chosen.push_back(std::move(entry));
  }
  DST_CHECK(!chosen.empty(), "nothing to quantize in ", root.name(),
            ": no ops::Linear below it but those ignored, ", ignore,
            "; pass the whole model, and ignore less");
  return chosen;
}

}  // namespace

std::vector<std::string> prepare_qat(torch::nn::Module& root, const QuantizationScheme& scheme,
                                     const std::vector<std::string>& ignore) {
  const auto method = std::make_shared<FakeQuantizedLinearMethod>(scheme);
  std::vector<std::string> names;
  for (auto& [name, linear] : linears_to_quantize(root, scheme, ignore)) {
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
  for (auto& [name, linear] : linears_to_quantize(root, scheme, ignore)) {
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
