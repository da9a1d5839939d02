// What errors of the shared-memory transport tell.
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "deepseek_train/core/error.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;
using test_support::errors_of_ranks;

CommunicatorOptions options(std::chrono::milliseconds timeout) {
  CommunicatorOptions options;
  options.transport = "shm";
  options.timeout = timeout;
  return options;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string name_of_rank(int rank) {
  char host[256] = {};
  ::gethostname(host, sizeof(host) - 1);
  return concat("rank ", rank, " (pid ", ::getpid(), ", host ", host, ")");
}

TEST(ShmReportTest, ATimeoutTellsWhatEveryRankWasDoing) {
  const auto errors = errors_of_ranks(
      3,
      [&](Communicator& communicator) {
        std::vector<float> data(1000);
        communicator.barrier();
        if (communicator.rank() == 2) {
          std::this_thread::sleep_for(1500ms);
          return;
        }
        if (communicator.rank() == 1) std::this_thread::sleep_for(100ms);
        communicator.all_reduce(std::span(data), ReduceOp::kMax);
      },
      options(500ms));
  // Either of the two that wait may be first to give up.
  const bool is_zero_first = errors[0].starts_with("Timeout: ");
  EXPECT_TRUE(contains(errors[is_zero_first ? 0 : 1],
                       concat("Timeout: ", name_of_rank(2), " did not arrive in ")))
      << errors[0] << errors[1];
  for (int waiting : {0, 1}) {
    const auto& error = errors[waiting];
    EXPECT_TRUE(contains(error, "all_reduce #2 (max of 1000 float32) at shm_report_test.cc:"))
        << error;
    // Both may give up in the same moment; then each tells of the other.
    EXPECT_TRUE(contains(error, name_of_rank(0) + ": in all_reduce #2") ||
                contains(error, name_of_rank(1) + ": in all_reduce #2"))
        << error;
    EXPECT_TRUE(contains(error, name_of_rank(2) + ": between calls, last barrier #1 at shm_report"))
        << error;
  }
  EXPECT_TRUE(contains(errors[0] + errors[1], " since 0.")) << errors[0] << errors[1];
}

TEST(ShmReportTest, DifferentTypesCountsOpsAndOrdersTellAllCalls) {
  const auto report = [](const std::function<void(Communicator&)>& odd_call) {
    return errors_of_ranks(
        4,
        [&](Communicator& communicator) {
          std::vector<float> data(64);
          if (communicator.rank() == 3) return odd_call(communicator);
          communicator.all_reduce(std::span(data));
        },
        options(20s));
  };
  std::vector<float> floats(64);
  std::vector<int32_t> integers(64);
  const auto expect = [&](const std::vector<std::string>& errors, const std::string& odd) {
    for (const auto& error : errors) {
      EXPECT_TRUE(contains(error, "ranks made different calls")) << error;
      EXPECT_TRUE(contains(error, name_of_rank(3))) << error;
      EXPECT_TRUE(contains(error, odd)) << error;
      EXPECT_TRUE(contains(error, "all_reduce #1 (sum of 64 float32) at shm_report")) << error;
    }
  };
  expect(report([&](Communicator& c) { c.all_reduce(std::span(integers)); }),
         "all_reduce #1 (sum of 64 int32)");
  expect(report([&](Communicator& c) { c.all_reduce(std::span(floats).first(63)); }),
         "all_reduce #1 (sum of 63 float32)");
  expect(report([&](Communicator& c) { c.all_reduce(std::span(floats), ReduceOp::kMin); }),
         "all_reduce #1 (min of 64 float32)");
  expect(report([&](Communicator& c) { c.broadcast(std::span(floats), 2); }),
         "broadcast #1 (64 float32 from rank 2)");
}

TEST(ShmReportTest, ALongReasonIsCut) {
  const auto errors = errors_of_ranks(
      2,
      [](Communicator& communicator) {
        communicator.barrier();
        if (communicator.rank() == 0) return communicator.abort(std::string(5000, 'x'));
        for (;;) communicator.barrier();
      },
      options(20s));
  EXPECT_TRUE(contains(errors[1], std::string(2000, 'x'))) << errors[1];
  EXPECT_EQ(errors[1].substr(errors[1].size() - 4), "x...");
}

}  // namespace
}  // namespace deepseek_train::collectives
