// The integer linear layer: what a W8A8 model runs after training.
// Shapes: M tokens, K input features, N output features.
#pragma once

#include <torch/torch.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "deepseek_train/ops/linear.h"

namespace deepseek_train::quantization {

// How many layers' matrix products a model has executed in integers, so that a report can show that
// they ran. Thread-safe.
class Int8ProductCounter {
 public:
  void add_one() { count_.fetch_add(1, std::memory_order_relaxed); }
  int64_t count() const { return count_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> count_{0};
};

// Who multiplies. kAutomatic is oneDNN (through libtorch's onednn::qlinear_pointwise) wherever it
// is there and exact, which is tried once with extreme values: processors without VNNI or AMX add
// neighbouring products in 16 bits and saturate. kPortable is a loop of our own, exact everywhere
// and slow.
enum class Int8Engine { kAutomatic, kOneDnn, kPortable };

// Packed weights of one engine. multiply() is thread-safe.
class Int8Product {
 public:
  virtual ~Int8Product() = default;
  // x [M, K] uint8 as q + 128, contiguous -> sum over k of q[m][k] * w[n][k]: [M, N], int32 or,
  // from an engine that converts on the way, fp32 (the int32 sum rounded to nearest).
  virtual torch::Tensor multiply(const torch::Tensor& x) const = 0;
  // "onednn::qlinear_pointwise u8s8", "portable u8s8".
  virtual std::string kernel() const = 0;
};

// Packs weight [N, K] int8, CPU. Throws InvalidArgument for another type or shape, or for K so
// large that 32 bits could overflow; Unavailable if kOneDnn was asked for and is not there or not
// exact.
std::unique_ptr<Int8Product> make_int8_product(const torch::Tensor& weight,
                                               Int8Engine engine = Int8Engine::kAutomatic);

// Each token is quantized by int8.h's convention with a scale of its own, multiplied in integers,
// and scaled by token and channel (and shifted by the bias) while it is written in the input's
// dtype. Equal to the fake-quantized fp32 layer up to the rounding of the fp32 sums there. Memory:
// the packed weights, about N * K bytes, and 4 * N for the scales. Threads: libtorch's. apply() is
// thread-safe.
class Int8LinearMethod : public ops::LinearMethod {
 public:
  // weight [N, K] int8, scale fp32 with N values ([N] or [N, 1]), on the CPU; both are copied.
  // `counter` is shared with the model's other layers and its report; none: a counter of its own.
  Int8LinearMethod(const torch::Tensor& weight, const torch::Tensor& scale,
                   std::shared_ptr<Int8ProductCounter> counter = nullptr,
                   Int8Engine engine = Int8Engine::kAutomatic);

  // input [..., K] fp32 or bf16. `weight` is not used and may be undefined. Inference only: throws
  // InvalidArgument if a gradient would have to flow.
  torch::Tensor apply(const torch::Tensor& input, const torch::Tensor& weight,
                      const torch::Tensor& bias) override;

  // "int8 w8a8 (onednn::qlinear_pointwise u8s8, rows avx512)".
  std::string name() const override;
  const Int8ProductCounter& counter() const { return *counter_; }

 private:
  struct QuantizedTokens;
  static QuantizedTokens quantize_tokens(const torch::Tensor& input);
  void multiply_slice(size_t slice, const QuantizedTokens& tokens, const torch::Tensor& bias,
                      const torch::Tensor& output) const;

  int64_t out_features_ = 0;
  int64_t in_features_ = 0;
  torch::Tensor scale_;                               // [N] fp32
  std::vector<std::unique_ptr<Int8Product>> slices_;  // of the output features, in their order
  std::shared_ptr<Int8ProductCounter> counter_;
};

// weight [N, K] fp32 -> int8 values [N, K] and fp32 scales [N, 1], as they are exported. Throws
// InvalidArgument if the weight holds a NaN or an infinity.
struct Int8Weight {
  torch::Tensor values;
  torch::Tensor scales;
};
Int8Weight quantize_channels(const torch::Tensor& weight);

}  // namespace deepseek_train::quantization
