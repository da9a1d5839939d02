// One reader for each kind of model on disk.
#pragma once

#include "deepseek_train/models/checkpoint.h"

namespace deepseek_train::models {

std::unique_ptr<Checkpoint> open_gguf_checkpoint(Env& env, const std::string& path);
std::unique_ptr<Checkpoint> open_folder_checkpoint(Env& env, const std::string& folder);

// Throws InvalidArgument when the tokenizer can give ids that the embedding has no row for.
void check_vocabulary(const std::string& path, const text::Tokenizer& tokenizer,
                      const ModelConfig& config);

}  // namespace deepseek_train::models
