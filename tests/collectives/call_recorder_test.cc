// What a communicator tells a metrics sink and a trace.
#include "collectives/call_recorder.h"

#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/env.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;

class LastValues final : public MetricsSink {
 public:
  void record(int64_t step, const MetricValues& values) override {
    std::lock_guard lock(mutex_);
    last_step = step;
    for (const auto& [name, value] : values) last[name] = value;
  }
  int64_t last_step = 0;
  std::map<std::string, double> last;

 private:
  std::mutex mutex_;
};

TEST(DurationHistogramTest, QuantilesAreUpperEndsOfTheirBuckets) {
  DurationHistogram histogram;
  EXPECT_EQ(histogram.quantile_us(0.5), 0.0);
  for (int i = 0; i < 98; ++i) histogram.add(3us);
  histogram.add(900us);
  histogram.add(5ms);
  EXPECT_EQ(histogram.count(), 100u);
  EXPECT_EQ(histogram.quantile_us(0.50), 4.0);
  EXPECT_EQ(histogram.quantile_us(0.99), 1024.0);
  EXPECT_EQ(histogram.quantile_us(1.00), 8192.0);
  EXPECT_NEAR(histogram.total_seconds(), 98 * 3e-6 + 900e-6 + 5e-3, 1e-12);
}

TEST(CallRecorderTest, CountsCallsAndBytesAndTracesEverySpan) {
  LastValues metrics;
  const std::string path = ::testing::TempDir() + "collectives_trace.json";
  {
    auto trace = make_chrome_trace(posix_env(), path, 0);
    CommunicatorOptions options;
    options.metrics = &metrics;
    options.trace = trace.get();
    test_support::run_ranks(
        1,
        [](Communicator& communicator) {
          std::vector<float> data(100);
          for (int i = 0; i < 3; ++i) communicator.all_reduce(std::span(data));
          communicator.barrier();
        },
        options);
  }
  EXPECT_EQ(metrics.last_step, 4);
  EXPECT_EQ(metrics.last.at("collectives/all_reduce/calls"), 3.0);
  EXPECT_EQ(metrics.last.at("collectives/all_reduce/bytes"), 1200.0);
  EXPECT_EQ(metrics.last.at("collectives/barrier/calls"), 1.0);
  EXPECT_GT(metrics.last.at("collectives/all_reduce/seconds"), 0.0);

  const auto json = nlohmann::json::parse(read_text(posix_env(), path));
  std::vector<std::string> names;
  for (const auto& event : json.at("traceEvents")) {
    if (event.at("ph") != "X") continue;
    names.push_back(event.at("name"));
    EXPECT_GE(event.at("dur").get<double>(), 0.0);
    EXPECT_NE(event.at("args").at("call").get<std::string>().find("call_recorder_test.cc"),
              std::string::npos);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"all_reduce", "all_reduce", "all_reduce", "barrier"}));
  EXPECT_EQ(json.at("otherData").at("spans_left_out"), 0);
  posix_env().remove_all(path);
}

}  // namespace
}  // namespace deepseek_train::collectives
