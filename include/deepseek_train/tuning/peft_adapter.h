// PEFT's adapter folder: adapter_config.json and adapter_model.safetensors. PEFT, vLLM and others
// load what is written here, and the other way round.
#pragma once

#include <string>
#include <string_view>

#include "deepseek_train/core/env.h"
#include "deepseek_train/tuning/lora.h"

namespace deepseek_train::tuning {

// Writes the folder under a temporary name, then renames it into place; an older one of that name
// is replaced. Tensors keep float32.
void save_adapter(Env& env, const std::string& folder, const LoraAdapters& adapters,
                  const std::string& name);

// Adds the folder's adapter as `name` and activates it. Throws NotFound for a missing file,
// InvalidArgument for what cannot be computed here (pickles, other kinds of adapters, options of
// PEFT that change the function), a target the model does not have; DataCorruption for a tensor
// that is missing, unknown, of another shape or not finite. After an error the model is as before.
void load_adapter(Env& env, const std::string& folder, LoraAdapters& adapters,
                  const std::string& name);

// adapter_config.json from text; `origin` stands for the file's name in errors. Unknown keys are
// accepted only with a value that switches nothing on.
LoraConfig parse_lora_config(std::string_view json, const std::string& origin);
std::string to_json(const LoraConfig& config);

}  // namespace deepseek_train::tuning
