#include "quantization/kernels/cpu/int8_product.h"

namespace deepseek_train::quantization {

void multiply_u8s8_portable(const uint8_t* x, const int8_t* weight, int64_t m, int64_t n, int64_t k,
                            int32_t* product, int64_t product_stride) {
  // A row of weights stays in the first-level cache while all tokens pass by it.
  for (int64_t j = 0; j < n; ++j, weight += k) {
    for (int64_t i = 0; i < m; ++i) {
      const uint8_t* token = x + i * k;
      int32_t sum = 0;
      for (int64_t p = 0; p < k; ++p) sum += (int32_t{token[p]} - 128) * int32_t{weight[p]};
      product[i * product_stride + j] = sum;
    }
  }
}

}  // namespace deepseek_train::quantization
