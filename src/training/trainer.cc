#include "deepseek_train/training/trainer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"
#include "src/training/auxiliary_losses.h"

namespace deepseek_train::training {

struct Trainer::StepResult {
  double loss = 0;  // mean over the global tokens
  double grad_norm = 0;
  double learning_rate = 0;
  int64_t num_tokens = 0;  // read by all ranks, padding aside
  bool stop = false;
  MetricValues auxiliary;  // of mixtures of experts
};

namespace {

// How far the fullest expert of each layer is above the mean.
void append_loads(const std::map<int64_t, torch::Tensor>& loads, MetricValues& values) {
  for (const auto& [layer, load] : loads) {
    const auto mean = load.to(at::kDouble).mean().item<double>();
    if (mean > 0)
      values.emplace_back(concat("max_over_mean_load/layer_", layer),
                          static_cast<double>(load.max().item<int64_t>()) / mean);
  }
}

}  // namespace

Trainer::Trainer(const TrainerParts& parts, const TrainerOptions& options)
    : parts_(parts),
      options_(options),
      ddp_(parts.model.module(), parts.communicator),
      optimizer_(parts.model.module(), options.optimizer),
      checkpointer_(parts.env, options.output_dir, options.save_total_limit),
      loss_(cross_entropy()) {
  DST_CHECK(options.max_steps > 0, "max_steps is ", options.max_steps, ", wanted at least 1");
  DST_CHECK(options.gradient_accumulation_steps > 0, "gradient_accumulation_steps is ",
            options.gradient_accumulation_steps, ", wanted at least 1");
}

bool Trainer::resume() {
  // Rank 0 looks, all follow: a checkpoint that appears in between must not split them.
  int64_t step = parts_.communicator.rank() == 0 ? checkpointer_.latest().value_or(-1) : 0;
  parts_.communicator.broadcast(std::span(&step, 1), /*root=*/0);
  if (step < 0) return false;
  auto state = checkpointer_.load(step, parts_.model.module(), optimizer_);
  parts_.loader.load_state_dict(state.sampler);
  global_step_ = state.global_step;
  epoch_ = nlohmann::json::parse(state.sampler).value("epoch", int64_t{0});
  log_history_ = state.log_history;
  return true;
}

std::vector<data::Batch> Trainer::next_batches() {
  std::vector<data::Batch> batches;
  while (static_cast<int64_t>(batches.size()) < options_.gradient_accumulation_steps) {
    auto batch = parts_.loader.next();
    if (batch) {
      batches.push_back(std::move(*batch));
    } else {
      DST_CHECK(parts_.loader.size() > 0,
                "the data gives this rank no batch; use fewer ranks or more records");
      parts_.loader.set_epoch(++epoch_);
    }
  }
  return batches;
}

Trainer::StepResult Trainer::train_step() {
  auto batches = next_batches();
  AuxiliaryLosses auxiliary(parts_.model,
                            {options_.router_aux_loss_coef, options_.mtp_loss_weight});
  std::vector<int64_t> counts = {0,
                                 0};  // positions in the loss, tokens read, then the auxiliaries'
  for (const auto& batch : batches) {
    counts[0] += loss_.count(batch);
    for (int64_t length : batch.lengths) counts[1] += length;
  }
  auto more = auxiliary.counts(batches);
  counts.insert(counts.end(), more.begin(), more.end());
  parts_.communicator.all_reduce(std::span<int64_t>(counts));
  auxiliary.set_global_counts({counts.begin() + 2, counts.end()});
  DST_CHECK(counts[0] > 0, "no token of step ", global_step_ + 1,
            "'s batch has a loss; check the data's answer parts");

  ddp_.zero_grad();
  double loss_sum = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    ddp_.set_sync(i + 1 == batches.size());
    auto loss = loss_.sum(auxiliary.observed(batches[i]), batches[i]);
    loss_sum += loss.item<double>();
    auto objective = loss / static_cast<double>(counts[0]);
    if (auto term = auxiliary.term(batches[i]); term.defined()) objective = objective + term;
    objective.backward();
  }
  ddp_.wait();
  const bool stop = options_.stop_requested && options_.stop_requested();
  std::array<double, 4> sums = {loss_sum, stop ? 1.0 : 0.0, auxiliary.balance_share(),
                                auxiliary.mtp_share()};
  parts_.communicator.all_reduce(std::span<double>(sums));

  StepResult result{.loss = sums[0] / static_cast<double>(counts[0]),
                    .grad_norm = gradient_norm(ddp_.flat_gradients()),
                    .learning_rate = options_.schedule.at(global_step_),
                    .num_tokens = counts[1],
                    .stop = sums[1] > 0,
                    .auxiliary = {}};
  DST_CHECK(std::isfinite(result.loss) && std::isfinite(result.grad_norm), "step ",
            global_step_ + 1, " has loss ", result.loss, " and gradient norm ", result.grad_norm,
            " at learning rate ", result.learning_rate,
            "; lower learning_rate, lengthen warmup_steps or look for damaged records. The last "
            "checkpoint is intact");
  const bool clip = options_.max_grad_norm > 0 && result.grad_norm > options_.max_grad_norm;
  optimizer_.step(result.learning_rate, clip ? options_.max_grad_norm / result.grad_norm : 1.0);
  const auto loads = auxiliary.global_loads(parts_.communicator);
  if (options_.bias_update_speed != 0)
    parts_.model.balance_experts(loads, options_.bias_update_speed);
  if (!loads.empty()) result.auxiliary.emplace_back("balance_loss", sums[2]);
  if (options_.mtp_loss_weight > 0 && parts_.model.num_mtp_layers() > 0)
    result.auxiliary.emplace_back("mtp_loss", sums[3]);
  append_loads(loads, result.auxiliary);
  return result;
}

void Trainer::log_step(const StepResult& result, double seconds) {
  LogEntry entry{.step = global_step_,
                 .loss = result.loss,
                 .learning_rate = result.learning_rate,
                 .grad_norm = result.grad_norm,
                 .tokens_per_second = static_cast<double>(result.num_tokens) / seconds};
  log_history_.push_back(entry);
  MetricValues values = {{"loss", entry.loss},
                         {"learning_rate", entry.learning_rate},
                         {"grad_norm", entry.grad_norm},
                         {"tokens_per_second", entry.tokens_per_second}};
  values.insert(values.end(), result.auxiliary.begin(), result.auxiliary.end());
  parts_.metrics.record(global_step_, values);
}

bool Trainer::run_until(int64_t step) {
  using Clock = std::chrono::steady_clock;
  parts_.model.module().train();
  while (global_step_ < std::min(step, options_.max_steps)) {
    auto begin = Clock::now();
    auto result = train_step();
    ++global_step_;
    log_step(result, std::chrono::duration<double>(Clock::now() - begin).count());
    if (result.stop || (options_.save_steps > 0 && global_step_ % options_.save_steps == 0)) save();
    if (result.stop) return false;
  }
  return true;
}

void Trainer::save() {
  if (parts_.communicator.rank() == 0) {
    checkpointer_.save(
        parts_.model.module(), optimizer_,
        {global_step_, options_.max_steps, parts_.loader.state_dict(), log_history_});
    log_info("saved ", options_.output_dir, "/checkpoint-", global_step_);
  }
  parts_.communicator.barrier();
}

}  // namespace deepseek_train::training
