#include "quantization/encodings/fp8_block/folder_files.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"

namespace deepseek_train::quantization {
namespace {

using Json = nlohmann::ordered_json;  // a config keeps the order of its keys

constexpr const char* kKey = "quantization_config";

Json parse_config(const std::string& text, const std::string& path) {
  Json config = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  DST_CHECK_AS(DataCorruption, config.is_object(), path, " is not a JSON object");
  return config;
}

void check_value(const Json& settings, const char* key, const Json& wanted,
                 const std::string& path) {
  const Json found = settings.value(key, Json());
  DST_CHECK(found == wanted, path, ": ", kKey, " has ", key, " ", found.dump(), ", wanted ",
            wanted.dump(), " (DeepSeek's FP8 blocks)");
}

std::string text_of(const Json& config) { return config.dump(2) + "\n"; }

bool is_text_file(std::string_view name) {
  for (const std::string_view ending :
       {".json", ".jinja", ".model", ".tiktoken", ".txt", ".md", ".py"})
    if (name.ends_with(ending)) return true;
  return name.starts_with("LICENSE");
}

}  // namespace

std::string config_without_fp8(const std::string& config_json, const std::string& path) {
  Json config = parse_config(config_json, path);
  DST_CHECK(config.contains(kKey) && config[kKey].is_object(), path, " has no ", kKey,
            ": the weights are not FP8");
  const Json& settings = config[kKey];
  check_value(settings, "quant_method", "fp8", path);
  check_value(settings, "weight_block_size", {kFp8BlockSize, kFp8BlockSize}, path);
  if (settings.contains("fmt")) check_value(settings, "fmt", "e4m3", path);
  config.erase(kKey);
  return text_of(config);
}

std::string config_with_fp8(const std::string& config_json, Fp8ScaleFormat format,
                            const std::string& path) {
  Json config = parse_config(config_json, path);
  DST_CHECK(!config.contains(kKey), path, " has a ", kKey,
            " already; convert the weights to bf16 first");
  Json& settings = config[kKey];
  settings = {{"activation_scheme", "dynamic"}, {"fmt", "e4m3"}, {"quant_method", "fp8"}};
  if (format == Fp8ScaleFormat::kUe8m0) settings["scale_fmt"] = "ue8m0";
  settings["weight_block_size"] = {kFp8BlockSize, kFp8BlockSize};
  return text_of(config);
}

void copy_other_files(Env& env, const std::string& from, const std::string& to) {
  for (const auto& name : env.list(from)) {
    const bool is_rewritten = name == "config.json" || name.ends_with(".safetensors.index.json");
    if (is_text_file(name) && !is_rewritten)
      write_text(env, join_path(to, name), read_text(env, join_path(from, name)));
  }
}

void make_folder(Env& env, const std::string& folder,
                 const std::function<void(const std::string& temporary)>& fill) {
  DST_CHECK(!env.exists(folder), folder, " exists already; remove it or choose another name");
  const auto temporary = concat(folder, ".partial-", ::getpid());
  try {
    fill(temporary);
    env.rename(temporary, folder);
  } catch (...) {
    env.remove_all(temporary);
    throw;
  }
}

}  // namespace deepseek_train::quantization
