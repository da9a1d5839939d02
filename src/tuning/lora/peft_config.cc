// adapter_config.json, PEFT's keys in PEFT's order (alphabetical).
#include <algorithm>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "deepseek_train/tuning/peft_adapter.h"

namespace deepseek_train::tuning {
namespace {

using Json = nlohmann::json;

// Keys that do not change the function of the adapter.
const std::vector<std::string> kWithoutEffect = {"auto_mapping",        "base_model_name_or_path",
                                                 "ensure_weight_tying", "inference_mode",
                                                 "megatron_core",       "peft_version",
                                                 "qalora_group_size",   "revision",
                                                 "task_type",           "layers_pattern",
                                                 "runtime_config",      "loftq_config"};
const std::vector<std::string> kUnderstood = {
    "alpha_pattern",     "bias",           "exclude_modules",
    "init_lora_weights", "lora_alpha",     "lora_dropout",
    "modules_to_save",   "peft_type",      "r",
    "rank_pattern",      "target_modules", "use_dora",
    "use_rslora"};

bool contains(const std::vector<std::string>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

// Null, false, zero, "", [] and {}: nothing is switched on.
bool is_off(const Json& value) {
  return value.is_null() || value == false || value == 0 || value == "" ||
         (value.is_structured() && value.empty());
}

void check_nothing_else_is_on(const Json& json, const std::string& origin) {
  DST_CHECK(json.value("peft_type", "") == "LORA", origin, ": peft_type is ",
            json.value("peft_type", Json()).dump(), ", wanted \"LORA\"");
  DST_CHECK(json.value("bias", "none") == "none", origin, ": bias is ", json["bias"].dump(),
            ", wanted \"none\": trained biases are not implemented");
  for (const auto& [key, value] : json.items())
    DST_CHECK(contains(kUnderstood, key) || contains(kWithoutEffect, key) || is_off(value), origin,
              ": ", key, " is ", value.dump(),
              ", which changes what the adapter computes and is not implemented");
  // "pissa", "olora", "corda", "loftq" replace the base weights.
  const auto init = json.value("init_lora_weights", Json(true));
  DST_CHECK(!init.is_string() || init == "gaussian" || init == "orthogonal" || init == "eva",
            origin, ": init_lora_weights is ", init.dump(),
            ": such adapters belong to changed base weights; convert it to a plain LoRA with "
            "PEFT's path_initial_model_for_weight_conversion");
}

// PEFT: a list has names, a text is a regular expression or all-linear.
std::vector<std::string> read_names(const Json& json, const char* key) {
  if (!json.contains(key) || json[key].is_null()) return {};
  if (json[key].is_array()) return json[key].get<std::vector<std::string>>();
  auto text = json[key].get<std::string>();
  return {text == "all-linear" ? text : "re:" + text};
}

Json write_names(const std::vector<std::string>& names) {
  if (names.empty()) return nullptr;
  if (names.size() == 1 && names[0] == "all-linear") return names[0];
  if (names.size() == 1 && names[0].starts_with("re:")) return names[0].substr(3);
  for (const auto& name : names)
    DST_CHECK(!name.starts_with("re:") && name != "all-linear", "\"", name,
              "\" stands beside other entries in ", names,
              "; PEFT's file has either one regular expression or a list of names");
  return names;
}

template <typename Value>
void read(const Json& json, const char* key, Value& value) {
  if (json.contains(key) && !json[key].is_null()) value = json[key].get<Value>();
}

}  // namespace

LoraConfig parse_lora_config(std::string_view text, const std::string& origin) {
  auto json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  DST_CHECK_AS(DataCorruption, json.is_object(), origin, " is no JSON object");
  LoraConfig config;
  try {
    check_nothing_else_is_on(json, origin);
    read(json, "r", config.r);
    read(json, "lora_alpha", config.lora_alpha);
    read(json, "lora_dropout", config.lora_dropout);
    read(json, "rank_pattern", config.rank_pattern);
    read(json, "alpha_pattern", config.alpha_pattern);
    read(json, "use_rslora", config.use_rslora);
    read(json, "use_dora", config.use_dora);
    read(json, "base_model_name_or_path", config.base_model_name_or_path);
    config.target_modules = read_names(json, "target_modules");
    config.exclude_modules = read_names(json, "exclude_modules");
    config.modules_to_save = read_names(json, "modules_to_save");
  } catch (const Json::exception& error) {
    throw DataCorruption(
        concat(origin, ": a value is of another kind than PEFT's: ", error.what()));
  }
  config.check();
  return config;
}

std::string to_json(const LoraConfig& config) {
  Json json = {{"alpha_pattern", config.alpha_pattern},
               {"base_model_name_or_path", config.base_model_name_or_path},
               {"bias", "none"},
               {"exclude_modules", write_names(config.exclude_modules)},
               {"fan_in_fan_out", false},
               {"inference_mode", true},
               {"init_lora_weights", true},
               {"lora_alpha", config.lora_alpha},
               {"lora_dropout", config.lora_dropout},
               {"modules_to_save", write_names(config.modules_to_save)},
               {"peft_type", "LORA"},
               {"r", config.r},
               {"rank_pattern", config.rank_pattern},
               {"target_modules", write_names(config.target_modules)},
               {"task_type", "CAUSAL_LM"},
               {"use_dora", config.use_dora},
               {"use_rslora", config.use_rslora}};
  return json.dump(2) + "\n";
}

}  // namespace deepseek_train::tuning
