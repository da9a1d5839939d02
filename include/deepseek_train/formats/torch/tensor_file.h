// Tensors of libtorch in safetensors files.
#pragma once

#include <torch/torch.h>

#include <string>
#include <vector>

#include "deepseek_train/core/env.h"
#include "deepseek_train/formats/safetensors.h"

namespace deepseek_train::formats {

struct NamedTensor {
  std::string name;
  torch::Tensor tensor;
};

// Borrows the mapped bytes, without a copy: read-only, valid while the file is open.
torch::Tensor as_tensor(const TensorView& view);

// Writes CPU tensors, in the order given, and commits. Copies at most one tensor at a time (when
// not contiguous).
void write_tensors(Env& env, const std::string& path, const std::vector<NamedTensor>& tensors,
                   const StringMap& metadata = {});

}  // namespace deepseek_train::formats
