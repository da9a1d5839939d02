// Names inside a run's folder (docs/data-formats.md).
#pragma once

#include <string>
#include <string_view>

#include "deepseek_train/core/env.h"
#include "deepseek_train/tuning/recipe.h"

namespace deepseek_train::tuning {

inline std::string in_run(const Recipe& recipe, std::string_view name) {
  return join_path(recipe.run_folder(), name);
}
inline std::string train_store(const Recipe& recipe) { return in_run(recipe, "prepared/train.h5"); }
inline std::string run_log(const Recipe& recipe) { return in_run(recipe, "log.jsonl"); }
inline std::string bf16_folder(const Recipe& recipe) { return in_run(recipe, "export/bf16"); }
inline std::string adapter_folder(const Recipe& recipe) { return in_run(recipe, "export/adapter"); }
inline std::string ptq_folder(const Recipe& recipe) { return in_run(recipe, "export/w8a8-ptq"); }
inline std::string w8a8_folder(const Recipe& recipe) { return in_run(recipe, "export/w8a8"); }

// Notes in the run's folder what its results depend on. Throws InvalidArgument if another recipe's
// run is there: a resumed run must be the same run.
void claim_run_folder(Env& env, const Recipe& recipe);

}  // namespace deepseek_train::tuning
