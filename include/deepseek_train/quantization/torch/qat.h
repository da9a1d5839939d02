// Turning a model's Linear layers into fake-quantized ones for training, and into integer ones for
// use.
#pragma once

#include <torch/torch.h>

#include <memory>
#include <string>
#include <vector>

#include "deepseek_train/ops/linear.h"
#include "deepseek_train/quantization/scheme.h"
#include "deepseek_train/quantization/torch/int8_linear.h"

namespace deepseek_train::quantization {

// All functions visit every ops::Linear registered below `root`, by its name there
// ("model.layers.0.mlp.up_proj"). `ignore` has such names, or "re:" and a regular expression. They
// throw InvalidArgument if nothing is left to do.

// Gives each the fake-quantizing method; weights stay the fp32 master weights and parameters keep
// their names. Returns the names, in the model's order.
std::vector<std::string> prepare_qat(torch::nn::Module& root, const QuantizationScheme& scheme,
                                     const std::vector<std::string>& ignore = {"lm_head"});

// Gives back the dense method where prepare_qat put its own; no error if it did nowhere.
void remove_qat(torch::nn::Module& root);

struct Int8Model {
  std::vector<std::string> names;  // of the converted layers
  std::string kernel;              // the method's name, for the report
  std::shared_ptr<Int8ProductCounter> counter;
};

// Quantizes each layer's weight, packs it, and releases the fp32 weight; one layer at a time, so
// the peak is one layer above what was there. Works with or without prepare_qat before it. To have
// lm_head among them leave it out of `ignore`; a tied one packs a copy of the embedding, which
// itself stays as it is.
Int8Model convert(torch::nn::Module& root, const QuantizationScheme& scheme,
                  const std::vector<std::string>& ignore = {"lm_head"});

// For weights that are integers already (an exported folder): packs them into `linear` and releases
// its fp32 weight. weight [N, K] int8, scale [N] or [N, 1] fp32.
void set_int8_weight(ops::Linear& linear, const torch::Tensor& weight, const torch::Tensor& scale,
                     std::shared_ptr<Int8ProductCounter> counter);

}  // namespace deepseek_train::quantization
