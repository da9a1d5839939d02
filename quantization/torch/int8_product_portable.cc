#include "quantization/kernels/cpu/int8_product.h"
#include "quantization/torch/int8_product_engines.h"
#include "quantization/torch/rows.h"

namespace deepseek_train::quantization {
namespace {

class PortableProduct : public Int8Product {
 public:
  explicit PortableProduct(const torch::Tensor& weight) : weight_(weight.clone()) {}

  torch::Tensor multiply(const torch::Tensor& x) const override {
    const int64_t m = x.size(0), n = weight_.size(0), k = weight_.size(1);
    torch::Tensor product = torch::empty({m, n}, torch::kInt32);
    for_row_blocks(n, m * k, [&](int64_t first, int64_t count) {
      multiply_u8s8_portable(x.const_data_ptr<uint8_t>(),
                             weight_.const_data_ptr<int8_t>() + first * k, m, count, k,
                             product.data_ptr<int32_t>() + first, n);
    });
    return product;
  }

  std::string kernel() const override { return "portable u8s8"; }

 private:
  torch::Tensor weight_;  // [N, K]
};

}  // namespace

std::unique_ptr<Int8Product> make_portable_product(const torch::Tensor& weight) {
  return std::make_unique<PortableProduct>(weight);
}

}  // namespace deepseek_train::quantization
