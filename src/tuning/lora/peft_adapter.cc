#include "deepseek_train/tuning/peft_adapter.h"

#include <unistd.h>

#include <cmath>
#include <set>

#include "deepseek_train/core/error.h"

namespace deepseek_train::tuning {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kWeights = "adapter_model.safetensors";

void check_files(Env& env, const std::string& folder) {
  for (const char* name : {kConfig, kWeights}) {
    if (env.exists(join_path(folder, name))) continue;
    DST_CHECK(!env.exists(join_path(folder, "adapter_model.bin")), folder,
              " holds adapter_model.bin, a pickle, which can run code when it is read; save the "
              "adapter with PEFT's safe_serialization=True");
    throw NotFound(concat(folder, " is no adapter: it has no ", name));
  }
}

void copy_checked(const torch::Tensor& to, const torch::Tensor& stored, const std::string& name,
                  const std::string& path) {
  DST_CHECK_AS(DataCorruption, stored.sizes() == to.sizes(), path, ": tensor ", name, " has shape ",
               stored.sizes().vec(), ", the model and ", kConfig, " ask for ", to.sizes().vec(),
               "; is it the adapter of another model, or of another rank?");
  to.detach().copy_(stored);
  DST_CHECK_AS(DataCorruption, std::isfinite(to.sum(at::kDouble).item<double>()), path, ": tensor ",
               name, " holds NaN or infinite values");
}

// Older PEFT files end the magnitude's name in ".weight".
std::string stored_name(const formats::SafetensorsFile& file, const std::string& name) {
  if (!file.find(name) && file.find(name + ".weight")) return name + ".weight";
  return name;
}

void copy_tensors(const formats::SafetensorsFile& file, const LoraAdapters& adapters,
                  const std::string& adapter) {
  torch::NoGradGuard no_grad;
  std::set<std::string> unused;
  for (const auto& tensor : file.tensors()) unused.insert(tensor.name);
  for (const auto& [key, tensor] : adapters.tensors(adapter)) {
    const auto name = stored_name(file, concat(kPrefix, key));
    DST_CHECK_AS(DataCorruption, unused.erase(name) == 1, file.path(), " has no tensor ", name,
                 ", which ", kConfig, " asks for in this model");
    copy_checked(tensor, formats::as_tensor(file.get(name)), name, file.path());
  }
  DST_CHECK_AS(DataCorruption, unused.empty(), file.path(), " has ", unused.size(),
               " tensors that the model has no place for, the first is ", *unused.begin());
}

}  // namespace

void save_adapter(Env& env, const std::string& folder, const LoraAdapters& adapters,
                  const std::string& name) {
  auto tensors = adapters.tensors(name);
  for (auto& tensor : tensors) tensor = {concat(kPrefix, tensor.name), tensor.tensor.detach()};
  const auto temporary = concat(folder, ".partial-", ::getpid());
  try {
    formats::write_tensors(env, join_path(temporary, kWeights), tensors, {{"format", "pt"}});
    write_text(env, join_path(temporary, kConfig), to_json(adapters.config(name)));
    env.remove_all(folder);
    env.rename(temporary, folder);
  } catch (...) {
    env.remove_all(temporary);
    throw;
  }
}

void load_adapter(Env& env, const std::string& folder, LoraAdapters& adapters,
                  const std::string& name) {
  check_files(env, folder);
  const auto config_path = join_path(folder, kConfig);
  const auto config = parse_lora_config(read_text(env, config_path), config_path);
  const formats::SafetensorsFile file(env, join_path(folder, kWeights));
  const auto active = adapters.active();
  adapters.add(name, config);
  try {
    copy_tensors(file, adapters, name);
  } catch (...) {
    adapters.remove(name);
    if (!active.empty()) adapters.activate(active);
    throw;
  }
}

}  // namespace deepseek_train::tuning
