// A recipe: one YAML file that says what to train on what, how, and what to make of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek_train/core/env.h"
#include "deepseek_train/data/sources.h"
#include "deepseek_train/tuning/lora_config.h"

namespace deepseek_train::tuning {

struct DataRecipe {
  std::string train;  // a file of records; formats as in data/sources.h
  std::string test;   // held-out records; empty: no scoring
  std::string format = "auto";
  std::string prompt;          // template: "Software: {description}\nSection:"
  std::string answer;          // template: " {section}"
  std::string think = "keep";  // reasoning in chats: keep, mask, drop (text/chat_format.h)
  int64_t max_length = 512;
};

struct TrainingRecipe {
  int64_t max_steps = 0;
  int64_t per_device_train_batch_size = 8;
  int64_t gradient_accumulation_steps = 1;
  double learning_rate = 1e-4;
  double min_learning_rate_ratio = 0.1;
  int64_t warmup_steps = 0;
  double weight_decay = 0.01;
  double max_grad_norm = 1.0;
  // Of mixtures of experts; see docs/models.md. Absent: the config's aux_loss_alpha.
  std::optional<double> router_aux_loss_coef;
  double bias_update_speed = 0;  // gamma; 0: the routers' biases stay as they are
  double mtp_loss_weight = 0.1;  // lambda; 0: multi-token prediction layers stay as they are
  int64_t seed = 0;
  int64_t save_steps = 0;
  int64_t save_total_limit = 1;
};

// With this section an adapter is trained in place of the weights.
struct LoraRecipe {
  LoraConfig config;
  // How the frozen weights are kept while training: "nf4", "nf4-double" or "int8" (QLoRA); empty:
  // in the compute dtype.
  std::string base;
};

struct QuantizationRecipe {
  std::string scheme;     // "w8a8"; empty: no quantization
  int64_t qat_steps = 0;  // steps with fake quantization, after max_steps
  std::vector<std::string> ignore = {"lm_head"};
};

struct EvaluationRecipe {
  std::string baseline;  // JSON of a classical baseline: majority, logistic_regression
  int64_t max_new_tokens = 8;
  int64_t batch_size = 50;
  int64_t context = 2048;  // tokens a window of the perplexity
  // What models are scored in. Answers of two models are compared record by record, and bfloat16's
  // own rounding would change some of them.
  std::string compute_dtype = "float32";
};

struct CommunicationRecipe {
  std::string backend = "native";
  int64_t timeout_seconds = 120;
  // Between hosts: mutual TLS with rankR.crt, rankR.key and ca.crt of this folder (each host needs
  // those of its own ranks), whose certificates say job/rank/R. Empty: none.
  std::string credentials;
  std::string job;  // the job's SPIFFE id
  bool insecure_network = false;
};

struct Recipe {
  std::string name;  // the run's folder is output_dir/name
  std::string output_dir = "runs";
  std::string model_name_or_path;
  std::string compute_dtype = "auto";  // bfloat16 where the CPU multiplies it, else float32
  // A block of the user's own in place of the model's, by its name in the program's BlockRegistry.
  std::string attention_block, mlp_block;
  DataRecipe data;
  TrainingRecipe training;
  std::optional<LoraRecipe> lora;
  QuantizationRecipe quantization;
  EvaluationRecipe evaluation;
  CommunicationRecipe communication;

  std::string run_folder() const { return join_path(output_dir, name); }
};

// Reads and checks the file. Throws InvalidArgument with file, line and key: for YAML that cannot
// be parsed, an unknown key (with the nearest known one), a value of another kind or out of range,
// a required key that is missing.
Recipe load_recipe(Env& env, const std::string& path);
// The same from text; `origin` stands for the file's name in errors.
Recipe parse_recipe(std::string_view yaml, const std::string& origin);

// The sources of the recipe's train or test file; `render_chat` of chat_records.h.
data::SourceOptions sources_of(const DataRecipe& recipe, const std::string& path,
                               data::RenderChat render_chat);

}  // namespace deepseek_train::tuning
