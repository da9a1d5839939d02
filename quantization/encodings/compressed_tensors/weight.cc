#include <cmath>

#include "deepseek_train/core/error.h"
#include "deepseek_train/quantization/compressed_tensors.h"
#include "deepseek_train/quantization/row_kernels.h"

namespace deepseek_train::quantization {

std::vector<formats::TensorInfo> compressed_linear_tensors(std::string_view prefix,
                                                           int64_t out_features,
                                                           int64_t in_features) {
  return {{.name = concat(prefix, ".weight"),
           .dtype = DType::kInt8,
           .shape = {out_features, in_features}},
          {.name = concat(prefix, ".weight_scale"),
           .dtype = DType::kFloat32,
           .shape = {out_features, 1}}};
}

QuantizedWeight quantize_weight(std::span<const float> weight, int64_t out_features,
                                int64_t in_features) {
  // Divided rather than multiplied: sizes from a file may not fit a product.
  DST_CHECK(
      out_features > 0 && in_features > 0 &&
          weight.size() / static_cast<size_t>(in_features) == static_cast<size_t>(out_features) &&
          weight.size() % static_cast<size_t>(in_features) == 0,
      "a weight of ", weight.size(), " values is not [", out_features, ", ", in_features, "]");
  QuantizedWeight result{.out_features = out_features,
                         .in_features = in_features,
                         .values = std::vector<int8_t>(weight.size()),
                         .scales = std::vector<float>(static_cast<size_t>(out_features))};
  row_kernels().quantize_f32_s8(weight.data(), out_features, in_features, result.values.data(),
                                result.scales.data());
  for (int64_t n = 0; n < out_features; ++n) {
    DST_CHECK(
        std::isfinite(result.scales[static_cast<size_t>(n)]), "channel ", n,
        " of the weight holds a NaN or an infinity; it cannot be quantized. Did training diverge?");
  }
  return result;
}

}  // namespace deepseek_train::quantization
