// Model folders for others to load.
#pragma once

#include <string>
#include <vector>

#include "deepseek_train/core/env.h"
#include "deepseek_train/models/transformer.h"
#include "deepseek_train/text/tokenizer.h"

namespace deepseek_train::tuning {

// A Hugging Face folder with bfloat16 safetensors, tokenizer and config.
void export_bf16(Env& env, const std::string& folder, const models::Transformer& model,
                 const text::Tokenizer& tokenizer);

// The same in compressed-tensors W8A8: every Linear but those in `ignore` as INT8 with one scale a
// channel, the rest in bfloat16. Rounds to nearest, so it is post-training quantization for a model
// that was not trained for it. Throws InvalidArgument naming a weight that holds a NaN.
void export_w8a8(Env& env, const std::string& folder, models::Transformer& model,
                 const text::Tokenizer& tokenizer, const std::vector<std::string>& ignore);

}  // namespace deepseek_train::tuning
