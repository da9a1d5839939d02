// The engines behind make_int8_product. weight [N, K] int8, CPU, contiguous.
#pragma once

#include <memory>

#include "deepseek_train/quantization/torch/int8_linear.h"

namespace deepseek_train::quantization {

// nullptr if this libtorch has no oneDNN.
std::unique_ptr<Int8Product> make_onednn_product(const torch::Tensor& weight);
std::unique_ptr<Int8Product> make_portable_product(const torch::Tensor& weight);

}  // namespace deepseek_train::quantization
