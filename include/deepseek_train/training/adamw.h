// AdamW (Loshchilov & Hutter 2017, arXiv 1711.05101) with float32 moments.
#pragma once

#include <torch/torch.h>

#include <string>
#include <vector>

#include "deepseek_train/formats/torch/tensor_file.h"

namespace deepseek_train::training {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  // Applied to matrices; vectors (norms, biases) are not decayed.
  double weight_decay = 0.01;
};

// One fused pass over each parameter a step. Memory: 8 bytes a parameter. One thread.
class AdamW {
 public:
  AdamW(torch::nn::Module& module, const AdamWOptions& options);

  // One step with the parameters' gradients times `gradient_scale` (1, or the factor that clips
  // them). The gradients are left scaled.
  void step(double learning_rate, double gradient_scale = 1.0);

  // Moments as "<parameter>.exp_avg" and "<parameter>.exp_avg_sq", and "step".
  std::vector<formats::NamedTensor> state_dict() const;
  // Throws DataCorruption, changing nothing, unless the file holds exactly this optimizer's
  // tensors.
  void load_state_dict(const formats::SafetensorsFile& file);

 private:
  struct Group {
    std::vector<std::string> names;
    std::vector<torch::Tensor> parameters, averages, squares, steps;
    double weight_decay = 0;
  };

  AdamWOptions options_;
  int64_t num_steps_ = 0;
  std::vector<Group> groups_;
};

// Euclidean norm over all flat gradients, in float64 between them; the same bits on every rank that
// has the same gradients.
double gradient_norm(const std::vector<torch::Tensor>& flat_gradients);

}  // namespace deepseek_train::training
