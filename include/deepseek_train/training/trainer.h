// The training loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "deepseek_train/collectives/communicator.h"
#include "deepseek_train/core/env.h"
#include "deepseek_train/core/metrics.h"
#include "deepseek_train/data/data_loader.h"
#include "deepseek_train/training/adamw.h"
#include "deepseek_train/training/causal_lm.h"
#include "deepseek_train/training/checkpointer.h"
#include "deepseek_train/training/distributed_data_parallel.h"
#include "deepseek_train/training/losses.h"
#include "deepseek_train/training/schedule.h"

namespace deepseek_train::training {

// Names are Hugging Face's where it has one.
struct TrainerOptions {
  std::string output_dir;  // runs/NAME
  int64_t max_steps = 0;
  int64_t gradient_accumulation_steps = 1;
  CosineSchedule schedule;
  AdamWOptions optimizer;
  double max_grad_norm = 1.0;  // 0: no clipping
  // Of mixtures of experts. alpha: weight of the routers' sequence-wise balance losses (mean over
  // the global batch's sequences, sum over layers), the config's aux_loss_alpha.
  double router_aux_loss_coef = 0;
  // gamma of the aux-loss-free rule, applied after every step with the loads of the global batch;
  // 0: the routers' biases stay as they are, bit by bit.
  double bias_update_speed = 0;
  // lambda: weight of the multi-token prediction loss.
  double mtp_loss_weight = 0;
  int64_t save_steps = 0;  // 0: only when asked
  int save_total_limit = 1;
  // Asked after every step; any rank's yes saves a checkpoint on all and ends run_until.
  std::function<bool()> stop_requested;
};

// Everything a trainer works on. Borrowed: all of it must outlive the trainer.
struct TrainerParts {
  CausalLm& model;
  data::DataLoader& loader;
  collectives::Communicator& communicator;
  Env& env;
  MetricsSink& metrics;
};

// Trains a language model on this rank's share of the data. The loss of a step is the mean over all
// counted tokens of all ranks and micro-batches, so ranks and accumulation do not change the
// gradient. Recorded each step: loss, learning_rate, grad_norm, tokens_per_second; with experts
// balance_loss and, for each layer N, max_over_mean_load/layer_N (1: balanced); mtp_loss.
// Collective: every rank makes the same calls. One thread.
class Trainer {
 public:
  Trainer(const TrainerParts& parts, const TrainerOptions& options);

  // What the next steps minimise; cross_entropy() at first.
  void set_loss(Loss loss) { loss_ = std::move(loss); }
  // Loads the newest complete checkpoint of output_dir, if there is one. True if it did.
  bool resume();
  // Trains up to `step` (at most max_steps). False if it was asked to stop before; a checkpoint is
  // saved then. Throws InvalidArgument when the loss is not a number, naming step and rate; nothing
  // of that step is kept.
  bool run_until(int64_t step);
  // Saves checkpoint-<global_step> on rank 0; every rank waits for it.
  void save();
  int64_t global_step() const { return global_step_; }
  // One entry for each step so far, those before a resume included.
  const std::vector<LogEntry>& log_history() const { return log_history_; }

 private:
  struct StepResult;
  StepResult train_step();
  std::vector<data::Batch> next_batches();
  void log_step(const StepResult& result, double seconds);

  TrainerParts parts_;
  TrainerOptions options_;
  DistributedDataParallel ddp_;
  AdamW optimizer_;
  Checkpointer checkpointer_;
  Loss loss_;
  int64_t global_step_ = 0;
  int64_t epoch_ = 0;
  std::vector<LogEntry> log_history_;
};

}  // namespace deepseek_train::training
