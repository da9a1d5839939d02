#include "deepseek_train/models/checkpoint.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "src/models/checkpoint_readers.h"

namespace deepseek_train::models {

std::unique_ptr<Checkpoint> open_checkpoint(Env& env, const std::string& path) {
  DST_CHECK_AS(NotFound, env.exists(path), "there is no model at ", path,
               "; wanted a Hugging Face folder or a .gguf file");
  if (path.ends_with(".gguf")) return open_gguf_checkpoint(env, path);
  DST_CHECK_AS(NotFound, env.exists(join_path(path, "config.json")), path,
               " is no model: wanted a folder with config.json, or a .gguf file");
  return open_folder_checkpoint(env, path);
}

void load_weights(LlamaModel& model, const Checkpoint& checkpoint,
                  const std::set<std::string>& elsewhere) {
  torch::NoGradGuard no_grad;
  auto available = checkpoint.tensor_names();
  std::set<std::string> unused(available.begin(), available.end());
  // A tied checkpoint may carry the shared matrix twice; the embedding's copy is the one that
  // counts.
  if (checkpoint.config().tie_word_embeddings) unused.erase("lm_head.weight");
  for (auto& parameter : model.named_parameters()) {
    if (elsewhere.contains(parameter.key())) continue;
    auto stored = checkpoint.tensor(parameter.key());
    DST_CHECK_AS(DataCorruption, stored.sizes() == parameter.value().sizes(), checkpoint.path(),
                 ": tensor ", parameter.key(), " has shape ", stored.sizes().vec(),
                 ", config.json asks for ", parameter.value().sizes().vec());
    parameter.value().copy_(stored);
    unused.erase(parameter.key());
  }
  for (const auto& name : elsewhere) unused.erase(name);
  DST_CHECK_AS(DataCorruption, unused.empty(), checkpoint.path(), " has ", unused.size(),
               " tensors the model does not use, the first is ", *unused.begin());
}

FolderFiles folder_files(const LlamaConfig& config, const text::Tokenizer& tokenizer,
                         std::string_view dtype, std::string_view quantization_config) {
  nlohmann::ordered_json generation = {{"_from_model_config", true}};
  if (config.bos_token_id) generation["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_id) generation["eos_token_id"] = *config.eos_token_id;
  if (config.pad_token_id) generation["pad_token_id"] = *config.pad_token_id;
  return {to_config_json(config, dtype, quantization_config), tokenizer.to_json(),
          tokenizer.config_json(), generation.dump(2) + "\n"};
}

void write_folder(Env& env, const std::string& folder, const FolderFiles& files,
                  const std::vector<formats::NamedTensor>& tensors) {
  auto temporary = concat(folder, ".partial-", ::getpid());
  try {
    formats::write_tensors(env, join_path(temporary, "model.safetensors"), tensors,
                           {{"format", "pt"}});
    write_text(env, join_path(temporary, "config.json"), files.config_json);
    write_text(env, join_path(temporary, "tokenizer.json"), files.tokenizer_json);
    write_text(env, join_path(temporary, "tokenizer_config.json"), files.tokenizer_config_json);
    write_text(env, join_path(temporary, "generation_config.json"), files.generation_config_json);
    env.remove_all(folder);
    env.rename(temporary, folder);
  } catch (...) {
    env.remove_all(temporary);
    throw;
  }
}

std::vector<formats::NamedTensor> named_weights(const LlamaModel& model, at::ScalarType dtype) {
  torch::NoGradGuard no_grad;
  std::vector<formats::NamedTensor> tensors;
  for (const auto& parameter : model.named_parameters())
    tensors.push_back({parameter.key(), parameter.value().detach().to(dtype)});
  return tensors;
}

}  // namespace deepseek_train::models
