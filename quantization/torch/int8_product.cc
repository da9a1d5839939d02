#include "quantization/kernels/cpu/int8_product.h"

#include <mutex>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"
#include "deepseek_train/quantization/torch/int8_linear.h"
#include "quantization/torch/int8_product_engines.h"

namespace deepseek_train::quantization {
namespace {

// One product whose neighbouring terms are as large as they can be, for one token and for many,
// because libraries choose their code by shape. A processor that adds pairs in 16 bits gets it
// wrong.
bool try_onednn() {
  constexpr int64_t kLength = 256, kFeatures = 64;
  const torch::Tensor weight = torch::full({kFeatures, kLength}, 127, torch::kInt8);
  const std::unique_ptr<Int8Product> product = make_onednn_product(weight);
  if (!product) return false;
  for (int64_t tokens : {1, 64}) {
    const torch::Tensor x = torch::full({tokens, kLength}, 255, torch::kUInt8);
    const auto wanted = static_cast<double>(kLength * 127 * 127);
    if (!product->multiply(x).eq(wanted).all().item<bool>()) return false;
  }
  return true;
}

// "" if oneDNN can be used, else why not. Tried once.
const std::string& onednn_obstacle() {
  static const std::string obstacle = []() -> std::string {
    try {
      return try_onednn() ? ""
                          : "its integer product is absent from this libtorch or not exact on this "
                            "processor";
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
  }();
  return obstacle;
}

}  // namespace

std::unique_ptr<Int8Product> make_int8_product(const torch::Tensor& weight, Int8Engine engine) {
  DST_CHECK(weight.defined() && weight.scalar_type() == torch::kInt8 && weight.dim() == 2 &&
                weight.is_cpu(),
            "an INT8 product needs a weight [N, K] int8 on the CPU; got ",
            weight.defined()
                ? concat(c10::toString(weight.scalar_type()), " ", weight.sizes().vec())
                : "none");
  DST_CHECK(weight.size(1) <= kMaxInt8ProductLength, "an INT8 weight has ", weight.size(1),
            " input features; sums of more than ", kMaxInt8ProductLength,
            " products can overflow 32 bits");
  torch::NoGradGuard no_grad;
  // The packing operator wants [N, K] itself: a transposed view passes it unnoticed where the
  // weight is square.
  const torch::Tensor rows = weight.contiguous();
  if (engine == Int8Engine::kPortable) return make_portable_product(rows);
  const std::string& obstacle = onednn_obstacle();
  if (obstacle.empty()) return make_onednn_product(rows);
  DST_CHECK_AS(Unavailable, engine == Int8Engine::kAutomatic, "oneDNN cannot be used: ", obstacle,
               "; choose Int8Engine::kPortable");
  static std::once_flag said;
  std::call_once(
      said, [&] { log_warning("INT8 layers run, but slowly: oneDNN cannot be used: ", obstacle); });
  return make_portable_product(rows);
}

}  // namespace deepseek_train::quantization
