// A run's log.jsonl: one JSON object a step, under Hugging Face's key names.
#pragma once

#include <fstream>
#include <mutex>
#include <string>
#include <vector>

#include "deepseek_train/core/env.h"
#include "deepseek_train/core/metrics.h"
#include "deepseek_train/training/checkpointer.h"

namespace deepseek_train::tuning {

// Appends a line a step and flushes it, so that a killed run keeps what it logged.
class RunLog final : public MetricsSink {
 public:
  // Throws Unavailable if the file cannot be opened; its folder must exist.
  explicit RunLog(const std::string& path);
  void record(int64_t step, const MetricValues& values) override;

 private:
  std::mutex mutex_;
  std::ofstream file_;
};

// The lines in the order of their steps; of a step logged twice (before and after a resumption) the
// later line counts, and one that a kill cut short is left out. Empty without a file.
std::vector<training::LogEntry> read_run_log(Env& env, const std::string& path);

}  // namespace deepseek_train::tuning
