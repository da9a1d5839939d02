// What a Hugging Face folder holds beside its tensors, when its weights change their encoding.
#pragma once

#include <functional>
#include <string>

#include "deepseek_train/core/env.h"
#include "deepseek_train/quantization/fp8_block.h"

namespace deepseek_train::quantization {

// config.json without its quantization_config. Throws InvalidArgument unless that describes FP8
// blocks of 128 x 128.
std::string config_without_fp8(const std::string& config_json, const std::string& path);
// config.json with it. Throws InvalidArgument if there is one already.
std::string config_with_fp8(const std::string& config_json, Fp8ScaleFormat format,
                            const std::string& path);

// Copies the folder's other text files: tokenizer, templates, generation settings, code, licence.
void copy_other_files(Env& env, const std::string& from, const std::string& to);

// Fills a folder under a temporary name, then renames it into place. Throws InvalidArgument if it
// exists.
void make_folder(Env& env, const std::string& folder,
                 const std::function<void(const std::string& temporary)>& fill);

}  // namespace deepseek_train::quantization
