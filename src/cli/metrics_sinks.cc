#include "src/cli/metrics_sinks.h"

#include <cstdio>

#include "deepseek_train/core/strings.h"

namespace deepseek_train::cli {
namespace {

double value_of(const MetricValues& values, std::string_view name) {
  for (const auto& [key, value] : values)
    if (key == name) return value;
  return 0;
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  return whole < 60 ? concat(whole, " s") : concat(whole / 60, " min ", whole % 60, " s");
}

}  // namespace

void ProgressSink::record(int64_t step, const MetricValues& values) {
  const auto now = Clock::now();
  if (first_step_ < 0) first_step_ = step - 1;
  if (step != total_steps_ && now - last_line_ < std::chrono::seconds(2)) return;
  last_line_ = now;
  const auto elapsed = std::chrono::duration<double>(now - begin_).count();
  const double left =
      elapsed / static_cast<double>(step - first_step_) * static_cast<double>(total_steps_ - step);
  std::printf("step %ld/%ld  loss %.4f  %.0f tokens/s  %s left\n", static_cast<long>(step),
              static_cast<long>(total_steps_), value_of(values, "loss"),
              value_of(values, "tokens_per_second"), duration_text(left).c_str());
  std::fflush(stdout);
}

RunSink::RunSink(bool is_lead, int64_t total_steps, const std::string& log_path) {
  if (!is_lead) return;
  progress_ = std::make_unique<ProgressSink>(total_steps);
  log_ = std::make_unique<tuning::RunLog>(log_path);
}

void RunSink::record(int64_t step, const MetricValues& values) {
  if (progress_) progress_->record(step, values);
  if (log_) log_->record(step, values);
}

}  // namespace deepseek_train::cli
