// Ranks that die, freeze, leave, disagree or give up: every other rank gets an error that names the
// culprit, in bounded time.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "collectives/transport/shm/segment.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/core/unique_fd.h"
#include "tests/support/rank_processes.h"
#include "tests/support/rank_threads.h"
#include "tests/support/trials.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;
using test_support::errors_of_ranks;
using test_support::launch_info;
using test_support::run_rank_processes;
using test_support::unique_job_id;

class FailureTest : public ::testing::TestWithParam<const char*> {
 protected:
  CommunicatorOptions options(std::chrono::milliseconds timeout = 20s) const {
    CommunicatorOptions options;
    options.transport = GetParam();
    options.timeout = timeout;
    return options;
  }
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Reduces until something happens.
std::string reduce_forever(Communicator& communicator,
                           const std::function<void(int round)>& before_round) {
  std::vector<float> data(100'000, 1.0f);
  for (int round = 0;; ++round) {
    before_round(round);
    communicator.all_reduce(std::span(data), ReduceOp::kAvg);
  }
}

TEST_P(FailureTest, AKilledRankIsNamedWithinAFewHundredMilliseconds) {
  // The long form kills at other rounds too, each rank in turn.
  for (int trial = 0; trial < test_support::num_trials(1, 150); ++trial) {
    const int victim = (1 + trial) % 3, last_round = 20 + trial;
    const auto outcomes = run_rank_processes(
        3,
        [&](Communicator& communicator) {
          return reduce_forever(communicator, [&](int round) {
            if (communicator.rank() == victim && round == last_round) ::raise(SIGKILL);
          });
        },
        options());
    EXPECT_EQ(outcomes[victim].signal, SIGKILL);
    for (int survivor : {(victim + 1) % 3, (victim + 2) % 3}) {
      EXPECT_TRUE(contains(outcomes[survivor].report,
                           concat("rank ", victim, " (pid ", outcomes[victim].pid)))
          << outcomes[survivor].report;
      EXPECT_LT(outcomes[survivor].elapsed, 5s)
          << "the timeout is 20 s: death must not be waited out";
    }
  }
}

TEST_P(FailureTest, AFrozenRankIsNamed) {
  const auto outcomes = run_rank_processes(
      3,
      [](Communicator& communicator) {
        return reduce_forever(communicator, [&](int round) {
          if (communicator.rank() == 2 && round == 10) ::raise(SIGSTOP);
        });
      },
      options(800ms));
  for (int survivor : {0, 1}) {
    const std::string& report = outcomes[survivor].report;
    EXPECT_TRUE(contains(report, concat("rank 2 (pid ", outcomes[2].pid))) << report;
    EXPECT_TRUE(contains(report, "all_reduce #11 (avg of 100000 float32)")) << report;
    if (GetParam() == std::string("shm")) {
      EXPECT_TRUE(contains(report, "has been stopped (SIGSTOP) for half a second")) << report;
    }
    EXPECT_LT(outcomes[survivor].elapsed, 10s);
  }
}

TEST_P(FailureTest, ARankThatIsBusyElsewhereIsNamedAtTheTimeout) {
  const auto errors = errors_of_ranks(
      3,
      [](Communicator& communicator) {
        if (communicator.rank() == 0) std::this_thread::sleep_for(1500ms);
        communicator.barrier();
      },
      options(400ms));
  EXPECT_TRUE(contains(errors[0], "PeerFailure")) << errors[0];
  for (int waiting : {1, 2}) {
    EXPECT_TRUE(contains(errors[waiting], "rank 0 (pid ")) << errors[waiting];
    EXPECT_TRUE(contains(errors[waiting], "did not arrive in barrier #1")) << errors[waiting];
  }
}

TEST_P(FailureTest, ARankThatLeavesIsNamed) {
  const auto errors = errors_of_ranks(
      3,
      [](Communicator& communicator) {
        communicator.barrier();
        if (communicator.rank() == 1) return;
        communicator.barrier();
      },
      options());
  EXPECT_EQ(errors[1], "");
  EXPECT_TRUE(contains(errors[0], "rank 1 (pid ")) << errors[0];
  EXPECT_TRUE(contains(errors[2], "rank 1 (pid ")) << errors[2];
}

TEST_P(FailureTest, DifferentCallsAreBothNamed) {
  const auto errors = errors_of_ranks(
      3,
      [](Communicator& communicator) {
        std::vector<float> data(1000);
        communicator.barrier();
        if (communicator.rank() == 2)
          communicator.broadcast(std::span(data).first(10), 1);
        else
          communicator.all_reduce(std::span(data), ReduceOp::kMax);
      },
      options());
  for (const auto& error : errors) {
    EXPECT_TRUE(contains(error, "all_reduce #2 (max of 1000 float32)")) << error;
    EXPECT_TRUE(contains(error, "broadcast #2 (10 float32 from rank 1)")) << error;
    EXPECT_TRUE(contains(error, "rank 2 ")) << error;
  }
}

TEST_P(FailureTest, DifferentCountsOpsAndTypesAreMismatches) {
  const auto mismatch = [&](const std::function<void(Communicator&)>& odd_call) {
    const auto errors = errors_of_ranks(
        2,
        [&](Communicator& communicator) {
          std::vector<float> data(50'000);
          if (communicator.rank() == 1) return odd_call(communicator);
          communicator.all_reduce(std::span(data));
        },
        options());
    for (const auto& error : errors)
      EXPECT_TRUE(contains(error, "ranks made different calls")) << error;
  };
  std::vector<float> floats(50'000);
  std::vector<int32_t> integers(50'000);
  mismatch([&](Communicator& c) { c.all_reduce(std::span(floats).first(49'999)); });
  mismatch([&](Communicator& c) { c.all_reduce(std::span(floats), ReduceOp::kAvg); });
  mismatch([&](Communicator& c) { c.all_reduce(std::span(integers)); });
  mismatch([&](Communicator& c) { c.barrier(); });
}

TEST_P(FailureTest, AbortReachesAllAndStays) {
  const auto errors = errors_of_ranks(
      4,
      [](Communicator& communicator) {
        communicator.barrier();
        if (communicator.rank() == 3) {
          std::this_thread::sleep_for(50ms);
          communicator.abort("loss is NaN in step 7");
          EXPECT_THROW(communicator.barrier(), Unavailable);
          return;
        }
        std::vector<float> data(10);
        auto first = communicator.all_reduce_async(data.data(), data.size(), DType::kFloat32);
        auto second = communicator.start({});
        EXPECT_THROW(first->wait(), PeerFailure);
        EXPECT_THROW(second->wait(), PeerFailure);
        communicator.barrier();
      },
      options());
  EXPECT_EQ(errors[3], "");
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_TRUE(contains(errors[rank], "PeerFailure: rank 3 (pid ")) << errors[rank];
    EXPECT_TRUE(contains(errors[rank], "loss is NaN in step 7")) << errors[rank];
  }
}

TEST_P(FailureTest, AbortInterruptsACallUnderWay) {
  const auto start = std::chrono::steady_clock::now();
  const auto errors = errors_of_ranks(
      2,
      [](Communicator& communicator) {
        communicator.barrier();
        if (communicator.rank() == 1) {
          std::this_thread::sleep_for(2s);
          return;
        }
        auto work = communicator.start({});  // rank 1 never comes
        std::this_thread::sleep_for(100ms);
        EXPECT_FALSE(work->is_completed());
        communicator.abort("enough");
        work->wait();
      },
      options());
  EXPECT_TRUE(contains(errors[0], "Unavailable: this communicator has ended: enough")) << errors[0];
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
}

TEST_P(FailureTest, DestroyingACommunicatorWithWorkUnderWayEndsTheGroup) {
  const auto errors = errors_of_ranks(
      2,
      [&](Communicator& communicator) {
        auto group = communicator.split(0, communicator.rank());
        if (communicator.rank() == 0) {
          auto work = group->start({});
          std::this_thread::sleep_for(50ms);
          group.reset();
          EXPECT_TRUE(work->is_completed());
          EXPECT_THROW(work->wait(), Unavailable);
          communicator.barrier();
        } else {
          communicator.barrier();
          group->barrier();
        }
      },
      options());
  EXPECT_EQ(errors[0], "");
  EXPECT_TRUE(contains(errors[1], "destroyed with calls under way")) << errors[1];
}

TEST_P(FailureTest, MessagesOfDifferentSizeAreRefused) {
  const auto errors = errors_of_ranks(
      2,
      [](Communicator& communicator) {
        char bytes[64] = {};
        if (communicator.rank() == 0)
          communicator.send(bytes, 64, 1);
        else
          communicator.recv(bytes, 32, 0);
        communicator.barrier();
      },
      options());
  for (const auto& error : errors)
    EXPECT_TRUE(contains(error, "recv of 32 bytes from rank 0, which sends 64")) << error;
}

TEST_P(FailureTest, AMissingSenderIsNamed) {
  const auto errors = errors_of_ranks(
      3,
      [](Communicator& communicator) {
        char byte = 0;
        if (communicator.rank() == 0) communicator.recv(&byte, 1, 2);
        std::this_thread::sleep_for(1200ms);
      },
      options(300ms));
  EXPECT_TRUE(contains(errors[0], "Timeout: ")) << errors[0];
  EXPECT_TRUE(contains(errors[0], "rank 2 (pid ")) << errors[0];
  EXPECT_TRUE(contains(errors[0], "recv (1 bytes from rank 2)")) << errors[0];
}

TEST_P(FailureTest, MistakesOfTheCallerLeaveTheGroupIntact) {
  test_support::run_ranks(
      2,
      [](Communicator& communicator) {
        std::vector<float> data(4);
        EXPECT_THROW(communicator.broadcast(std::span(data), 2), InvalidArgument);
        EXPECT_THROW(communicator.broadcast(std::span(data), -1), InvalidArgument);
        EXPECT_THROW(communicator.all_reduce_async(nullptr, 4, DType::kFloat32), InvalidArgument);
        EXPECT_THROW(communicator.all_reduce_async(data.data(), 4, DType::kBool), InvalidArgument);
        EXPECT_THROW(communicator.all_reduce_async(data.data(), SIZE_MAX / 2, DType::kFloat64),
                     InvalidArgument);
        EXPECT_THROW(communicator.all_gather(data, std::span(data)), InvalidArgument);
        EXPECT_THROW(communicator.send(data.data(), 4, communicator.rank()), InvalidArgument);
        EXPECT_THROW(communicator.recv(nullptr, 4, 1 - communicator.rank()), InvalidArgument);
        communicator.all_reduce(std::span(data));
      },
      options());
}

TEST_P(FailureTest, RanksThatNeverStartAreNamed) {
  auto mine = options(300ms);
  mine.launch = launch_info(0, 3, unique_job_id());
  mine.launch.rendezvous_host = "127.0.0.1";
  mine.launch.rendezvous_port = test_support::free_port();
  try {
    make_communicator(mine);
    FAIL() << "joined alone";
  } catch (const Timeout& error) {
    EXPECT_TRUE(contains(error.what(), "rank(s) 1, 2 of 3")) << error.what();
  }
  mine.launch.rank = mine.launch.local_rank = 1;
  EXPECT_THROW(make_communicator(mine), Timeout);
}

INSTANTIATE_TEST_SUITE_P(Transports, FailureTest, ::testing::Values("shm", "tcp"),
                         [](const auto& info) { return std::string(info.param); });

TEST(SharedSegmentTest, ADeadJobsSegmentIsReplaced) {
  const std::string job_id = unique_job_id();
  // A rank 0 that dies while it waits for the others leaves its segment behind.
  const pid_t child = ::fork();
  if (child == 0) {
    std::thread([] {
      std::this_thread::sleep_for(200ms);
      ::kill(::getpid(), SIGKILL);
    }).detach();
    CommunicatorOptions options;
    options.launch = launch_info(0, 2, job_id);
    make_communicator(options);
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  const std::string name = segment_name(job_id);
  ASSERT_TRUE(UniqueFd(::shm_open(name.c_str(), O_RDONLY, 0))) << "no stale segment to test with";

  std::vector<std::thread> ranks;
  for (int rank : {1, 0}) {
    ranks.emplace_back([&, rank] {
      CommunicatorOptions options;
      options.launch = launch_info(rank, 2, job_id);
      options.timeout = 20s;
      const auto communicator = make_communicator(options);
      std::vector<int32_t> sum = {rank + 1};
      communicator->all_reduce(std::span(sum));
      EXPECT_EQ(sum[0], 3);
    });
  }
  for (auto& rank : ranks) rank.join();
  EXPECT_FALSE(UniqueFd(::shm_open(name.c_str(), O_RDONLY, 0)))
      << "the name must be gone after joining";
}

TEST(SharedSegmentTest, GarbageUnderTheNameIsReplaced) {
  const std::string job_id = unique_job_id();
  const std::string name = segment_name(job_id);
  {
    UniqueFd garbage(::shm_open(name.c_str(), O_CREAT | O_RDWR, 0600));
    ASSERT_EQ(::ftruncate(garbage.get(), 100), 0);
  }
  CommunicatorOptions options;
  options.launch = launch_info(0, 1, job_id);
  EXPECT_EQ(make_communicator(options)->size(), 1);
}

TEST(SharedSegmentTest, TwoLiveLaunchesWithOneJobIdAreRefused) {
  const std::string job_id = unique_job_id();
  CommunicatorOptions first;
  first.launch = launch_info(0, 2, job_id);
  first.timeout = 1500ms;
  std::thread waiting([&] { EXPECT_THROW(make_communicator(first), Timeout); });
  std::this_thread::sleep_for(300ms);
  EXPECT_THROW(make_communicator(first), InvalidArgument);
  waiting.join();
}

}  // namespace
}  // namespace deepseek_train::collectives
