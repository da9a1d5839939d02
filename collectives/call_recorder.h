// What a communicator tells about its calls: a span of each to a trace, counts and times of each
// kind to a metrics sink.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::collectives {

// Times of one kind of call, in powers of two of a microsecond.
class DurationHistogram {
 public:
  void add(std::chrono::nanoseconds duration);
  uint64_t count() const { return count_; }
  double total_seconds() const { return total_seconds_; }
  // Upper end of the bucket that holds the given share of the calls, in microseconds.
  double quantile_us(double share) const;

 private:
  std::array<uint64_t, 40> buckets_{};  // [0]: below 1 us, [k]: below 2^k us
  uint64_t count_ = 0;
  double total_seconds_ = 0;
};

// One thread at a time. Costs two clock readings a call, and nothing where neither sink is given.
class CallRecorder {
 public:
  CallRecorder(MetricsSink* metrics, TraceSink* trace) : metrics_(metrics), trace_(trace) {}
  // Writes what was counted since the last time.
  ~CallRecorder();
  CallRecorder(const CallRecorder&) = delete;
  CallRecorder& operator=(const CallRecorder&) = delete;

  template <typename Body>
  void time(const CollectiveCall& call, const Body& body) {
    if (!metrics_ && !trace_) return body();
    const auto begin = Clock::now();
    body();
    record(call, begin, Clock::now());
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr size_t kNumKinds = static_cast<size_t>(Collective::kScatter) + 1;
  struct Counter {
    DurationHistogram durations;
    uint64_t bytes = 0;
  };

  void record(const CollectiveCall& call, Clock::time_point begin, Clock::time_point end);
  void flush() noexcept;

  MetricsSink* const metrics_;
  TraceSink* const trace_;
  std::array<Counter, kNumKinds> counters_;
  int64_t num_calls_ = 0;
  Clock::time_point last_flush_ = Clock::now();
};

}  // namespace deepseek_train::collectives
