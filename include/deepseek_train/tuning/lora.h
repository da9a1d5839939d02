// Low-rank adapters of a frozen model.
//
// Shape letters: K input features, N output features, R rank.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "deepseek_train/formats/torch/tensor_file.h"
#include "deepseek_train/tuning/lora_config.h"

namespace deepseek_train::tuning {

// The linear layers below `root` that the config targets, in the model's order. Throws
// InvalidArgument for a target that no layer has (with the nearest name), and if none is left.
std::vector<std::string> targeted_modules(const torch::nn::Module& root, const LoraConfig& config);

class LoraLayer;

// The adapters of one model: any number, of which at most one is active. Each lies in the modules
// it adapts, under PEFT's names ("...q_proj.lora_A.NAME.weight" [R, K], "lora_B" [N, R],
// "lora_magnitude_vector" [N]), as float32 whatever the model's dtype. One thread.
//
// Only the active adapter's parameters require gradients, so that optimizer, gradient buckets and
// checkpoints hold nothing else. Cost of a targeted layer while training: 6 M R (K + N) operations
// for M tokens beside the frozen 4 M K N, and of activations its input and M R values.
class LoraAdapters {
 public:
  // Freezes all of the model's parameters. The base of a layer is its LinearMethod at add(): dense,
  // or a frozen quantized one (quantization/torch/frozen_linear.h).
  explicit LoraAdapters(std::shared_ptr<torch::nn::Module> model);
  ~LoraAdapters();

  // A is uniform as Kaiming's and B zero, so that the model's function is unchanged. The new
  // adapter becomes active. Throws InvalidArgument for a name that is taken, empty or with a dot,
  // and what the config's check and targeted_modules throw.
  void add(const std::string& name, const LoraConfig& config, uint64_t seed = 0);
  // Throws NotFound naming the nearest.
  void remove(const std::string& name);
  void activate(const std::string& name);
  // The base model alone, until activate().
  void deactivate();
  // Empty when none is.
  const std::string& active() const { return active_; }
  std::vector<std::string> names() const;
  const LoraConfig& config(const std::string& name) const;

  // The adapter's tensors under PEFT's names on disk, without the prefix "base_model.model.". They
  // share memory with the parameters.
  std::vector<formats::NamedTensor> tensors(const std::string& name) const;

  // Puts the active adapter into the weights; they are rounded to their own dtype. The weights
  // before are kept (memory: a copy of the targeted layers), so that unmerge() restores every bit.
  // Throws InvalidArgument over a quantized base: load the floating-point model to merge.
  void merge();
  void unmerge();
  bool merged() const { return merged_; }
  // merge() for good: no copy is kept and every adapter is taken out. The object is of no use
  // afterwards, the model is a plain one (still frozen).
  void merge_and_unload();

 private:
  struct Adapter;
  Adapter& find(const std::string& name) const;
  void add_layers(const Adapter& adapter, const std::string& name, uint64_t seed);
  void add_saved_modules(Adapter& adapter);
  void use_saved(const std::map<std::string, torch::Tensor>& saved);
  void check_not_merged(const char* what) const;

  std::shared_ptr<torch::nn::Module> model_;
  std::map<std::string, std::shared_ptr<LoraLayer>> layers_;  // by module
  std::map<std::string, torch::Tensor> originals_;            // of modules_to_save, by parameter
  std::map<std::string, std::unique_ptr<Adapter>> adapters_;
  std::string active_;
  bool merged_ = false;
};

}  // namespace deepseek_train::tuning
