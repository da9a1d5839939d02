// Shapes: M tokens (all leading axes together), K input features, N output features.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <string>

namespace deepseek_train::ops {

// How a Linear computes its product. Quantization plugs in here: fake quantization while training,
// integers after. apply() may run on several threads at once if the implementation says so; those
// in this library may.
class LinearMethod {
 public:
  virtual ~LinearMethod() = default;

  // input [..., K] fp32 or bf16; weight [N, K], undefined where the method holds packed weights of
  // its own; bias [N] or undefined. Returns [..., N] in the input's dtype.
  virtual torch::Tensor apply(const torch::Tensor& input, const torch::Tensor& weight,
                              const torch::Tensor& bias) = 0;

  // The whole matrix [N, K] that apply() multiplies with, in `dtype`: for latent attention's
  // decoding and for adapters. Here the weight itself (no copy if it has the dtype). Throws
  // InvalidArgument where there is none in floating point.
  virtual torch::Tensor dense_weight(const torch::Tensor& weight, at::ScalarType dtype);

  // For logs and reports: "dense", "fake_quantized w8a8", ...
  virtual std::string name() const = 0;
};

// The plain product, always the same object: the master weight is cast to the input's dtype (no copy if it has it already),
// its gradient comes back in the master weight's dtype.
std::shared_ptr<LinearMethod> dense_linear_method();

struct LinearOptions {
  int64_t in_features = 0;
  int64_t out_features = 0;
  bool bias = false;
  torch::Device device = torch::kCPU;  // meta: shapes without memory
};

// y = x W^T + b with Hugging Face's parameter names and layout: weight [N, K], bias [N], created as
// fp32. The weight is uninitialised until it is loaded or reset_parameters() is called. forward()
// is as thread-safe as its method; everything else belongs to one thread.
class Linear : public torch::nn::Module {
 public:
  explicit Linear(const LinearOptions& options);

  // Normal(0, std) weights and a zero bias, as Hugging Face's initializer_range.
  void reset_parameters(double std = 0.02);

  // [..., K] -> [..., N] in the input's dtype.
  torch::Tensor forward(const torch::Tensor& input);

  // [N, K] in `dtype`: see LinearMethod.
  torch::Tensor dense_weight(at::ScalarType dtype) { return method_->dense_weight(weight, dtype); }

  // Shared ownership: one stateless method may serve many layers.
  void set_method(std::shared_ptr<LinearMethod> method);
  const std::shared_ptr<LinearMethod>& method() const { return method_; }

  // Uses another module's parameter [N, K] as the weight (a tied lm_head). It is not registered
  // here, so that parameters() does not count it twice.
  void share_weight(const torch::Tensor& other);

  // Drops the weight: the parameter is unregistered and this reference to its memory given up.
  // Needs a method that holds weights of its own; set_method comes first.
  void release_weight();
  bool has_weight() const { return weight.defined(); }

  int64_t in_features() const { return options_.in_features; }
  int64_t out_features() const { return options_.out_features; }
  void pretty_print(std::ostream& stream) const override;

  torch::Tensor weight;  // [N, K]; undefined after release_weight()
  torch::Tensor bias;    // [N]; undefined without bias

 private:
  void unregister_weight();

  LinearOptions options_;
  std::shared_ptr<LinearMethod> method_;
};

}  // namespace deepseek_train::ops
