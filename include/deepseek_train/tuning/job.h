// The main job: from a recipe to a tuned, quantized, verified model.
#pragma once

#include <chrono>
#include <functional>

#include "deepseek_train/collectives/communicator.h"
#include "deepseek_train/core/env.h"
#include "deepseek_train/core/metrics.h"
#include "deepseek_train/data/prepare.h"
#include "deepseek_train/models/blocks.h"
#include "deepseek_train/text/tokenizer.h"
#include "deepseek_train/tuning/recipe.h"
#include "deepseek_train/tuning/report.h"

namespace deepseek_train::tuning {

// What a job works with. Borrowed.
struct JobContext {
  const Recipe& recipe;
  Env& env;
  collectives::Communicator& communicator;
  MetricsSink& metrics;
  std::function<bool()> stop_requested;
  std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
  // A user's own blocks, of which the recipe or the model's config.json may name one.
  const models::BlockRegistry* blocks = nullptr;
};

// All are collective: every rank calls them with the same recipe.

// Writes runs/NAME/prepared/train.h5 from the recipe's data; rank 0 works, all get the result.
data::PrepareResult prepare_data(const JobContext& context);
// The same with the model's tokenizer at hand: its files are not opened for it.
data::PrepareResult prepare_data(const JobContext& context, const text::Tokenizer& tokenizer);

// Prepares, fine-tunes, exports export/bf16 (and export/w8a8-ptq), trains on with fake
// quantization, exports export/w8a8. Goes on from the newest checkpoint. False if it was asked to
// stop; the same call then goes on later. Throws InvalidArgument if the run's folder was made by
// another recipe.
bool train(const JobContext& context);

// Scores base model and exports, each loaded from disk, and writes report.json and report.html.
Report evaluate_run(const JobContext& context);

}  // namespace deepseek_train::tuning
