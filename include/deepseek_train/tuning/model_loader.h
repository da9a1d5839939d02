// Models from disk, ready to run: plain weights as floating point, compressed ones on integer
// kernels.
#pragma once

#include <memory>
#include <string>

#include "deepseek_train/core/env.h"
#include "deepseek_train/models/checkpoint.h"
#include "deepseek_train/models/transformer.h"
#include "deepseek_train/quantization/torch/int8_linear.h"

namespace deepseek_train::tuning {

struct LoadModelOptions {
  // What activations flow in. Plain weights are held in it too, unless `float32_masters`.
  at::ScalarType compute_dtype = at::kFloat;
  // Keep float32 weights and cast them as they are used: for training.
  bool float32_masters = false;
  // kReference: Hugging Face's operation order; compressed weights are dequantized and activations
  // fake-quantized, in floating point, as transformers runs them.
  models::Numerics numerics = models::Numerics::kFast;
  // A user's own blocks, and by name those that take the place of the model's: empty for the ones
  // that its config.json names, or the built-in ones.
  const models::BlockRegistry* blocks = nullptr;
  std::string attention_block, mlp_block;
};

struct LoadedModel {
  std::shared_ptr<models::Transformer> model;
  std::unique_ptr<models::Checkpoint> checkpoint;  // for its tokenizer and path
  // Of a compressed model on integer kernels: counts their products. Else null.
  std::shared_ptr<quantization::Int8ProductCounter> int8_products;
};

// Throws what open_checkpoint and load_weights throw, and InvalidArgument for a compression that
// cannot be run.
LoadedModel load_model(Env& env, const std::string& path, const LoadModelOptions& options);
// The same from files that are open already.
LoadedModel load_model(std::unique_ptr<models::Checkpoint> checkpoint,
                       const LoadModelOptions& options);

// "auto": bfloat16 where the processor has instructions for it, else float32; or the dtype by name.
at::ScalarType compute_dtype_by_name(std::string_view name);

}  // namespace deepseek_train::tuning
