#include "collectives/call_recorder.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <exception>

#include "collectives/describe.h"
#include "collectives/transport/call_signature.h"
#include "deepseek_train/core/log.h"

namespace deepseek_train::collectives {
namespace {

constexpr auto kFlushInterval = std::chrono::seconds(10);

}  // namespace

void DurationHistogram::add(std::chrono::nanoseconds duration) {
  const auto microseconds = static_cast<uint64_t>(std::max<int64_t>(duration.count() / 1000, 0));
  const size_t bucket = std::bit_width(microseconds);
  ++buckets_[std::min(bucket, buckets_.size() - 1)];
  ++count_;
  total_seconds_ += std::chrono::duration<double>(duration).count();
}

double DurationHistogram::quantile_us(double share) const {
  const auto wanted = static_cast<uint64_t>(std::ceil(share * static_cast<double>(count_)));
  uint64_t seen = 0;
  for (size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    seen += buckets_[bucket];
    if (seen >= wanted && seen > 0) return std::ldexp(1.0, static_cast<int>(bucket));
  }
  return 0;
}

CallRecorder::~CallRecorder() { flush(); }

void CallRecorder::record(const CollectiveCall& call, Clock::time_point begin,
                          Clock::time_point end) {
  ++num_calls_;
  Counter& counter = counters_[static_cast<size_t>(call.kind)];
  counter.durations.add(end - begin);
  counter.bytes += call.count * size_bytes(call.dtype);
  if (trace_)
    trace_->record("collectives", name_of(call.kind), begin, end,
                   {{"call", describe(sign(call, static_cast<uint64_t>(num_calls_)))}});
  if (metrics_ && end - last_flush_ >= kFlushInterval) flush();
}

void CallRecorder::flush() noexcept {
  if (!metrics_ || num_calls_ == 0) return;
  try {
    MetricValues values;
    for (size_t kind = 0; kind < kNumKinds; ++kind) {
      const Counter& counter = counters_[kind];
      if (counter.durations.count() == 0) continue;
      const auto prefix = concat("collectives/", name_of(static_cast<Collective>(kind)), "/");
      values.emplace_back(prefix + "calls", static_cast<double>(counter.durations.count()));
      values.emplace_back(prefix + "bytes", static_cast<double>(counter.bytes));
      values.emplace_back(prefix + "seconds", counter.durations.total_seconds());
      values.emplace_back(prefix + "p50_us", counter.durations.quantile_us(0.50));
      values.emplace_back(prefix + "p99_us", counter.durations.quantile_us(0.99));
    }
    metrics_->record(num_calls_, values);
    last_flush_ = Clock::now();
  } catch (const std::exception& error) {
    log_error("metrics of the collectives are lost: ", error.what());
  }
}

}  // namespace deepseek_train::collectives
