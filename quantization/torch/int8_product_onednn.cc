// oneDNN through libtorch's dispatcher. Activations go in as uint8 with zero point 128: with int8
// ones the operator takes a scalar path, thousands of times slower. All scales are 1; row_kernels
// apply the real ones afterwards.
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include "deepseek_train/quantization/int8.h"
#include "quantization/torch/int8_product_engines.h"

namespace deepseek_train::quantization {
namespace {

using PrepackSchema = at::Tensor(at::Tensor, std::optional<c10::List<int64_t>>);
using PointwiseSchema = at::Tensor(at::Tensor, double, int64_t, at::Tensor, at::Tensor, at::Tensor,
                                   std::optional<at::Tensor>, double, int64_t,
                                   std::optional<c10::ScalarType>, c10::string_view,
                                   c10::List<std::optional<at::Scalar>>, c10::string_view);

class OneDnnProduct : public Int8Product {
 public:
  OneDnnProduct(const c10::OperatorHandle& prepack, const c10::OperatorHandle& pointwise,
                const torch::Tensor& weight)
      : pointwise_(pointwise.typed<PointwiseSchema>()),
        packed_(prepack.typed<PrepackSchema>().call(weight, std::nullopt)) {}

  torch::Tensor multiply(const torch::Tensor& x) const override {
    return pointwise_.call(
        x, /*x_scale=*/1.0, kUint8ZeroPoint, packed_, one_, zero_, /*bias=*/std::nullopt,
        /*output_scale=*/1.0, /*output_zero_point=*/0, torch::kFloat32, "none", no_arguments_, "");
  }

  std::string kernel() const override { return "onednn::qlinear_pointwise u8s8"; }

 private:
  c10::TypedOperatorHandle<PointwiseSchema> pointwise_;
  torch::Tensor packed_;
  torch::Tensor one_ = torch::ones({1});
  torch::Tensor zero_ = torch::zeros({1}, torch::kInt32);
  c10::List<std::optional<at::Scalar>> no_arguments_;
};

}  // namespace

std::unique_ptr<Int8Product> make_onednn_product(const torch::Tensor& weight) {
  auto& dispatcher = c10::Dispatcher::singleton();
  const auto prepack = dispatcher.findSchema({"onednn::qlinear_prepack", ""});
  const auto pointwise = dispatcher.findSchema({"onednn::qlinear_pointwise", ""});
  if (!prepack || !pointwise) return nullptr;
  if (!prepack->hasKernelForDispatchKey(c10::DispatchKey::CPU)) return nullptr;
  return std::make_unique<OneDnnProduct>(*prepack, *pointwise, weight);
}

}  // namespace deepseek_train::quantization
