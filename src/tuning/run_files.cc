#include "src/tuning/run_files.h"

#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "deepseek_train/tuning/peft_adapter.h"

namespace deepseek_train::tuning {
namespace {

// Null without an adapter, as in the files of runs before there were any.
nlohmann::ordered_json adapter_of(const Recipe& recipe) {
  if (!recipe.lora) return nullptr;
  auto json = nlohmann::ordered_json::parse(to_json(recipe.lora->config));
  json["base"] = recipe.lora->base;
  return json;
}

// Everything that changes the weights; evaluation and communication may differ between a run and
// its resumption.
nlohmann::ordered_json fingerprint(const Recipe& recipe) {
  const auto& t = recipe.training;
  return {{"model_name_or_path", recipe.model_name_or_path},
          {"compute_dtype", recipe.compute_dtype},
          {"attention_block", recipe.attention_block},
          {"mlp_block", recipe.mlp_block},
          {"data.train", recipe.data.train},
          {"data.format", recipe.data.format},
          {"data.prompt", recipe.data.prompt},
          {"data.answer", recipe.data.answer},
          {"data.think", recipe.data.think},
          {"data.max_length", recipe.data.max_length},
          {"training.max_steps", t.max_steps},
          {"training.per_device_train_batch_size", t.per_device_train_batch_size},
          {"training.gradient_accumulation_steps", t.gradient_accumulation_steps},
          {"training.learning_rate", t.learning_rate},
          {"training.min_learning_rate_ratio", t.min_learning_rate_ratio},
          {"training.warmup_steps", t.warmup_steps},
          {"training.weight_decay", t.weight_decay},
          {"training.max_grad_norm", t.max_grad_norm},
          {"training.seed", t.seed},
          {"quantization.scheme", recipe.quantization.scheme},
          {"quantization.qat_steps", recipe.quantization.qat_steps},
          {"quantization.ignore", recipe.quantization.ignore},
          {"lora", adapter_of(recipe)}};
}

}  // namespace

void claim_run_folder(Env& env, const Recipe& recipe) {
  const auto path = in_run(recipe, "recipe.json");
  const auto mine = fingerprint(recipe);
  if (env.exists(path)) {
    auto theirs =
        nlohmann::ordered_json::parse(read_text(env, path), nullptr, /*allow_exceptions=*/false);
    for (const auto& [key, value] : mine.items()) {
      const auto found =
          theirs.is_object() && theirs.contains(key) ? theirs[key] : nlohmann::ordered_json();
      DST_CHECK(found == value, recipe.run_folder(), " holds a run with ", key, " = ", found.dump(),
                ", this recipe has ", value.dump(),
                "; give the recipe another name, or remove the folder to start anew");
    }
    return;
  }
  write_text(env, path, mine.dump(2) + "\n");
}

}  // namespace deepseek_train::tuning
