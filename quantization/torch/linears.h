// The linear layers that a conversion of a model is about.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "deepseek_train/ops/linear.h"

namespace deepseek_train::quantization {

struct NamedLinear {
  std::string name;
  std::shared_ptr<ops::Linear> linear;
};

// Every ops::Linear registered below `root`, in its order.
std::vector<NamedLinear> linears_of(torch::nn::Module& root);
// Those that `ignore` does not name; throws InvalidArgument if none is left.
std::vector<NamedLinear> chosen_linears(torch::nn::Module& root,
                                        const std::vector<std::string>& ignore);

}  // namespace deepseek_train::quantization
