#include <algorithm>
#include <cmath>
#include <regex>

#include "deepseek_train/core/error.h"
#include "deepseek_train/ops/linear.h"
#include "deepseek_train/tuning/lora.h"
#include "src/tuning/lora/module_names.h"

namespace deepseek_train::tuning {
namespace {

constexpr const char* kAllLinear = "all-linear";
constexpr const char* kHead = "lm_head";

std::regex compile(const std::string& pattern) {
  try {
    return std::regex(pattern);
  } catch (const std::regex_error& error) {
    throw InvalidArgument(concat("\"", pattern, "\" is not a regular expression: ", error.what()));
  }
}

// PEFT's rule for rank_pattern and alpha_pattern: the whole name, or its end after a dot.
template <typename Value>
Value value_for(const std::map<std::string, Value>& patterns, const std::string& module,
                Value otherwise) {
  for (const auto& [pattern, value] : patterns)
    if (std::regex_match(module, compile("(.*\\.)?(" + pattern + ")"))) return value;
  return otherwise;
}

std::vector<std::string> linears_of(const torch::nn::Module& root) {
  std::vector<std::string> names;
  for (const auto& module : root.named_modules("", /*include_self=*/false))
    if (module.value()->as<ops::Linear>()) names.push_back(module.key());
  return names;
}

// For "did you mean": the last parts, which is what people write.
std::vector<std::string> last_parts(const std::vector<std::string>& names) {
  std::vector<std::string> parts;
  for (const auto& name : names) {
    auto part = name.substr(name.rfind('.') + 1);
    if (std::find(parts.begin(), parts.end(), part) == parts.end()) parts.push_back(part);
  }
  return parts;
}

void check_every_target_is_there(const LoraConfig& config, const std::vector<std::string>& names) {
  for (const auto& target : config.target_modules) {
    if (target == kAllLinear) continue;
    DST_CHECK(std::any_of(names.begin(), names.end(),
                          [&](const auto& name) { return names_module(target, name); }),
              "target_modules has ", target, ", but no linear layer of the model is named so; ",
              "it has ", last_parts(names));
  }
}

}  // namespace

bool names_module(const std::string& entry, const std::string& module) {
  if (entry.starts_with("re:")) return std::regex_match(module, compile(entry.substr(3)));
  return module == entry || module.ends_with("." + entry);
}

bool names_module(const std::vector<std::string>& entries, const std::string& module) {
  return std::any_of(entries.begin(), entries.end(),
                     [&](const auto& entry) { return names_module(entry, module); });
}

int64_t LoraConfig::rank_of(const std::string& module) const {
  return value_for(rank_pattern, module, r);
}

double LoraConfig::scaling_of(const std::string& module) const {
  const auto rank = static_cast<double>(rank_of(module));
  return value_for(alpha_pattern, module, lora_alpha) / (use_rslora ? std::sqrt(rank) : rank);
}

void LoraConfig::check() const {
  DST_CHECK(r > 0, "r is ", r, ", wanted a rank of at least 1");
  for (const auto& [pattern, rank] : rank_pattern)
    DST_CHECK(rank > 0, "rank_pattern gives ", pattern, " the rank ", rank, ", wanted at least 1");
  DST_CHECK(std::isfinite(lora_alpha) && lora_alpha > 0, "lora_alpha is ", lora_alpha,
            ", wanted a number above zero");
  DST_CHECK(lora_dropout >= 0 && lora_dropout < 1, "lora_dropout is ", lora_dropout,
            ", wanted at least 0 and below 1");
  DST_CHECK(!target_modules.empty(), "target_modules is empty; name layers, or all-linear");
}

std::vector<std::string> targeted_modules(const torch::nn::Module& root, const LoraConfig& config) {
  const auto names = linears_of(root);
  check_every_target_is_there(config, names);
  const bool all = names_module(config.target_modules, kAllLinear);
  std::vector<std::string> chosen;
  for (const auto& name : names) {
    const bool wanted = names_module(config.target_modules, name) || (all && name != kHead);
    if (wanted && !names_module(config.exclude_modules, name) &&
        !names_module(config.modules_to_save, name))
      chosen.push_back(name);
  }
  DST_CHECK(!chosen.empty(), "no linear layer is left to adapt: target_modules is ",
            config.target_modules, ", exclude_modules ", config.exclude_modules);
  return chosen;
}

}  // namespace deepseek_train::tuning
