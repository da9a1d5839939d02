// The adapters of one linear layer.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "deepseek_train/formats/torch/tensor_file.h"
#include "deepseek_train/ops/linear.h"
#include "src/tuning/lora/low_rank_linear.h"

namespace deepseek_train::tuning {

// The LinearMethod of an adapted layer, around the method that it had before. Parameters are
// registered in the Linear as "lora_A.NAME.weight" and so on.
class LoraLayer final : public ops::LinearMethod {
 public:
  struct Options {
    int64_t rank = 0;
    double scale = 1, dropout = 0;
    bool dora = false;
  };

  // Puts itself into the layer, which owns it: the layer must outlive every call of this class.
  static std::shared_ptr<LoraLayer> wrap(ops::Linear& linear);
  // Takes everything out again.
  void unwrap();

  void add(const std::string& name, const Options& options, at::Generator generator);
  bool has(const std::string& name) const { return adapters_.contains(name); }
  bool empty() const { return adapters_.empty(); }
  void remove(const std::string& name);
  // A name without an adapter here leaves the base alone.
  void activate(const std::string& name);
  // Parameters under PEFT's names on disk, below the module's.
  std::vector<formats::NamedTensor> tensors(const std::string& name) const;

  // Throws InvalidArgument where there is no floating-point weight to merge into.
  void check_mergeable(const std::string& module) const;
  // The active adapter into the weight. `keep`: the weight before, for unmerge().
  void merge(bool keep);
  void unmerge();

  torch::Tensor apply(const torch::Tensor& input, const torch::Tensor& weight,
                      const torch::Tensor& bias) override;
  torch::Tensor dense_weight(const torch::Tensor& weight, at::ScalarType dtype) override;
  std::string name() const override { return "lora over " + base_->name(); }

 private:
  struct Adapter {
    LowRank low_rank;
    torch::Tensor magnitude;  // [N] fp32; undefined without DoRA
    double dropout = 0;
  };

  explicit LoraLayer(ops::Linear& linear) : linear_(linear), base_(linear.method()) {}
  torch::Tensor apply_dora(const torch::Tensor& input, const torch::Tensor& weight,
                           const torch::Tensor& bias, const Adapter& adapter) const;
  torch::Tensor adapted_weight(const torch::Tensor& weight, const Adapter& adapter) const;

  ops::Linear& linear_;
  std::shared_ptr<ops::LinearMethod> base_;
  std::map<std::string, Adapter> adapters_;
  const Adapter* active_ = nullptr;
  bool merged_ = false;
  torch::Tensor original_;  // the weight before merge(keep)
};

}  // namespace deepseek_train::tuning
