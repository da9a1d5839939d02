// Where spans of time go while a program runs: what happened when, on which rank, for a timeline.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deepseek_train/core/env.h"

namespace deepseek_train {

using TraceDetails = std::vector<std::pair<std::string, std::string>>;

// Thread-safe.
class TraceSink {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  virtual ~TraceSink() = default;
  // A span on `lane` ("collectives", "backward"), named and with details for whoever clicks on it.
  virtual void record(std::string_view lane, std::string_view name, TimePoint begin, TimePoint end,
                      const TraceDetails& details) = 0;
};

// Collects spans and writes them to `path`, when destroyed, in Chrome's Trace Event Format (JSON),
// which chrome://tracing and ui.perfetto.dev open; files of several ranks can be opened together,
// since `rank` is the process number and the clock is the host's. Keeps the first 200,000 spans
// (about 200 bytes each) and says so in the file when there were more. An error while writing is
// logged, not thrown.
std::unique_ptr<TraceSink> make_chrome_trace(Env& env, std::string path, int rank);

}  // namespace deepseek_train
