// The plain integer matrix product, for processors on which no library's is exact.
#pragma once

#include <cstdint>

namespace deepseek_train::quantization {

// product[m][n] = sum over k of (x[m][k] - 128) * weight[n][k]; x [M, K], weight [N, K], product
// [M, N], all dense. Exact for K up to kMaxInt8ProductLength. Works on the calling thread; split M
// or N over threads by `product_stride`, the distance in values from one row of the product to the
// next.
void multiply_u8s8_portable(const uint8_t* x, const int8_t* weight, int64_t m, int64_t n, int64_t k,
                            int32_t* product, int64_t product_stride);

// 255 * 128 * K must fit into 31 bits, with u8 activations before their zero point is taken off.
inline constexpr int64_t kMaxInt8ProductLength = INT32_MAX / (255 * 128);

}  // namespace deepseek_train::quantization
