// Where the program's numbers go: a progress line for people, log.jsonl for tools.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "deepseek_train/core/metrics.h"
#include "deepseek_train/tuning/run_log.h"

namespace deepseek_train::cli {

// "step 12/60  loss 1.234  560 tokens/s  1 min 20 s left": a line at most every two seconds. Whole
// lines, because mpirun hands every rank a terminal, even when its own output goes to a file.
class ProgressSink final : public MetricsSink {
 public:
  explicit ProgressSink(int64_t total_steps) : total_steps_(total_steps) {}
  void record(int64_t step, const MetricValues& values) override;

 private:
  using Clock = std::chrono::steady_clock;
  int64_t total_steps_;
  int64_t first_step_ = -1;
  Clock::time_point begin_ = Clock::now();
  Clock::time_point last_line_;
};

// Both; nothing on ranks other than the first.
class RunSink final : public MetricsSink {
 public:
  RunSink(bool is_lead, int64_t total_steps, const std::string& log_path);
  void record(int64_t step, const MetricValues& values) override;

 private:
  std::unique_ptr<ProgressSink> progress_;
  std::unique_ptr<tuning::RunLog> log_;
};

}  // namespace deepseek_train::cli
