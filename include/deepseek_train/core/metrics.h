// Where numbers go while a program runs: every component writes to a MetricsSink, the program
// chooses the sink.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace deepseek_train {

using MetricValues = std::vector<std::pair<std::string, double>>;

// Thread-safe.
class MetricsSink {
 public:
  virtual ~MetricsSink() = default;
  // Values measured at `step`, by name ("loss", "grad_norm", "learning_rate", "tokens_per_second").
  virtual void record(int64_t step, const MetricValues& values) = 0;
};

}  // namespace deepseek_train
