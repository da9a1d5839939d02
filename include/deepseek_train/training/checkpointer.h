// Checkpoints of a run: folders runs/NAME/checkpoint-N in Hugging Face's layout, without pickles.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "deepseek_train/core/env.h"
#include "deepseek_train/training/adamw.h"

namespace deepseek_train::training {

struct LogEntry {
  int64_t step = 0;
  double loss = 0;  // mean over the tokens with loss, of all ranks
  double learning_rate = 0;
  double grad_norm = 0;  // before clipping
  double tokens_per_second = 0;
};

// What a trainer needs to go on exactly where it was, besides tensors.
struct TrainerState {
  int64_t global_step = 0;
  int64_t max_steps = 0;
  std::string sampler;  // the data loader's state_dict
  std::vector<LogEntry> log_history;
};

// One thread. A checkpoint appears under its name only when it is whole (its last file is COMPLETE,
// then the folder is renamed), so a kill at any moment leaves the older ones usable.
class Checkpointer {
 public:
  // `keep`: newest checkpoints kept after a save, at least 1.
  Checkpointer(Env& env, std::string run_folder, int keep);

  // The newest complete checkpoint's step; nullopt if there is none.
  std::optional<int64_t> latest() const;
  // Of the parameters that require gradients, and no others. Costs 12 bytes each on disk. Throws
  // Unavailable when the disk is full, leaving what was there.
  void save(const torch::nn::Module& module, const AdamW& optimizer, const TrainerState& state);
  // Throws NotFound or DataCorruption naming the file.
  TrainerState load(int64_t step, torch::nn::Module& module, AdamW& optimizer) const;

 private:
  std::string folder_of(int64_t step) const;
  void remove_old();

  Env& env_;
  std::string run_folder_;
  int keep_;
};

}  // namespace deepseek_train::training
