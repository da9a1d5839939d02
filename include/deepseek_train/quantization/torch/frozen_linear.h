// Linear layers with frozen weights of 4 or 8 bits: what adapters are trained over when the model
// in floating point does not fit (QLoRA, arXiv 2305.14314).
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek_train/ops/linear.h"

namespace deepseek_train::quantization {

// kNf4: 4.5 bits a weight; kNf4Double: 4.13, its scales are quantized too; kInt8: 8 bits and a
// scale for each output channel, by int8.h's convention.
enum class FrozenFormat { kNf4, kNf4Double, kInt8 };

// "nf4", "nf4-double", "int8". Throws InvalidArgument for another name, naming these.
FrozenFormat frozen_format_by_name(std::string_view name);

// y = x W^T + b, W made in x's dtype for the call and given up after it, and once more for the
// gradient of x. W itself gets none. Memory: the packed weight, and one [N, K] while it runs.
class FrozenLinearMethod : public ops::LinearMethod,
                           public std::enable_shared_from_this<FrozenLinearMethod> {
 public:
  torch::Tensor apply(const torch::Tensor& input, const torch::Tensor& weight,
                      const torch::Tensor& bias) final;
  // Threads: libtorch's.
  torch::Tensor dense_weight(const torch::Tensor& weight, at::ScalarType dtype) final;
  virtual int64_t size_bytes() const = 0;

 protected:
  virtual torch::Tensor dequantize(at::ScalarType dtype) const = 0;
};

// Packs weight [N, K] of any floating type, CPU. Throws InvalidArgument if it holds a NaN or an
// infinity.
std::shared_ptr<FrozenLinearMethod> make_frozen_linear(const torch::Tensor& weight,
                                                       FrozenFormat format);

struct FrozenModel {
  std::vector<std::string> names;  // of the converted layers
  int64_t size_bytes = 0;          // of their packed weights
};

// Packs every ops::Linear registered below `root` and releases its weight, one layer at a time.
// `ignore` as for prepare_qat. Throws InvalidArgument if nothing is left to do.
FrozenModel freeze_linears(torch::nn::Module& root, FrozenFormat format,
                           const std::vector<std::string>& ignore = {"lm_head"});

}  // namespace deepseek_train::quantization
