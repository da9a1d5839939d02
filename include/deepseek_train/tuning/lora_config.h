// What a low-rank adapter is: LoRA (arXiv 2106.09685), rsLoRA (arXiv 2312.03732) and DoRA (arXiv
// 2402.09353), as PEFT defines them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace deepseek_train::tuning {

// PEFT's keys, with PEFT's defaults. Names of modules are Hugging Face's, and match as PEFT matches
// them: a whole name or its end after a dot ("q_proj"); "re:" begins a regular expression for the
// whole name.
struct LoraConfig {
  int64_t r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;  // of the adapters' input, while training
  // "all-linear": every linear layer but lm_head.
  std::vector<std::string> target_modules = {"all-linear"};
  std::vector<std::string> exclude_modules;
  // Trained whole, as a copy of their own (lm_head, embed_tokens, norms).
  std::vector<std::string> modules_to_save;
  // Rank and alpha of single layers: a regular expression for the end of the name to a value.
  std::map<std::string, int64_t> rank_pattern;
  std::map<std::string, double> alpha_pattern;
  bool use_rslora = false;  // alpha / sqrt(r) in place of alpha / r
  bool use_dora = false;
  std::string base_model_name_or_path;  // kept for the reader, not used

  int64_t rank_of(const std::string& module) const;
  // What B A x is multiplied with.
  double scaling_of(const std::string& module) const;
  // Throws InvalidArgument naming key and value.
  void check() const;
};

}  // namespace deepseek_train::tuning
