// Ranks that die, freeze or fall silent over TCP, and survivors that go on.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <random>
#include <thread>

#include "collectives/transport/tcp/silence_watch.h"
#include "deepseek_train/core/error.h"
#include "tests/support/rank_processes.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Interrupted = Survivors::Interrupted;
using test_support::errors_of_ranks;
using test_support::run_rank_processes;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

bool is_long_test() { return std::getenv("DST_LONG_TESTS") != nullptr; }

// DST_LONG_TESTS=1: the ten minutes of the requirement; another number: so many seconds.
std::chrono::seconds loaded_time() {
  if (!is_long_test()) return 4s;
  const int seconds = std::atoi(std::getenv("DST_LONG_TESTS"));
  return seconds > 1 ? std::chrono::seconds(seconds) : 600s;
}

CommunicatorOptions tcp(bool recoverable = false, const std::string& algorithm = "auto") {
  CommunicatorOptions options;
  options.transport = "tcp";
  options.algorithm = algorithm;
  options.timeout = 20s;
  options.recoverable = recoverable;
  return options;
}

// Kills this process after a while, from beside.
void die_after(std::chrono::microseconds delay) {
  std::thread([delay] {
    std::this_thread::sleep_for(delay);
    ::kill(::getpid(), SIGKILL);
  }).detach();
}

// What a rank adds in a round: a power of two, so that a sum tells who is in it.
float value_of(int launch_rank) { return static_cast<float>(1 << launch_rank); }

// A program that survives: all_reduces until `last_round`, shrinking whenever a rank is lost. After
// every round it checks whose values are in its sum. Returns "" or what is wrong.
class Survivor {
 public:
  Survivor(Communicator& communicator, size_t count) : communicator_(&communicator), data_(count) {
    for (int r = 0; r < communicator.size(); ++r) members_.push_back(r);
    rank_ = communicator.rank();
  }

  std::string run(int last_round, const std::function<void(int round)>& before_round) {
    for (int round = 0; round < last_round;) {
      before_round(round);
      std::fill(data_.begin(), data_.end(), value_of(rank_));
      std::vector<int> contributors = members_;
      try {
        communicator_->all_reduce(std::span(data_));
      } catch (const Unavailable&) {
        const auto outcome = shrink();
        if (outcome == Interrupted::kNone || outcome == Interrupted::kUntouched) {
          if (!is_untouched()) return concat("round ", round, ": the undone input is changed");
          continue;
        }
        if (outcome == Interrupted::kWithoutLost) contributors = members_;
      }
      const float expected = sum_of(contributors);
      for (const float value : data_) {
        if (value != expected)
          return concat("round ", round, ": sum is ", value, ", wanted ", expected);
      }
      ++round;
    }
    communicator_->barrier();
    return "";
  }

  Interrupted shrink() {
    Survivors left = communicator_->shrink();
    for (auto lost = left.lost.rbegin(); lost != left.lost.rend(); ++lost)
      members_.erase(members_.begin() + *lost);
    owned_.push_back(std::move(left.communicator));
    communicator_ = owned_.back().get();
    return left.interrupted;
  }
  const std::vector<int>& members() const { return members_; }

 private:
  static float sum_of(const std::vector<int>& ranks) {
    float sum = 0;
    for (const int rank : ranks) sum += value_of(rank);
    return sum;
  }
  bool is_untouched() const {
    return std::all_of(data_.begin(), data_.end(),
                       [this](float value) { return value == value_of(rank_); });
  }

  Communicator* communicator_;
  std::vector<std::unique_ptr<Communicator>> owned_;
  std::vector<float> data_;
  std::vector<int> members_;
  int rank_ = 0;
};

void expect_survival(const std::vector<test_support::ProcessOutcome>& outcomes,
                     const std::vector<int>& killed, const std::string& trial) {
  for (int rank = 0; rank < static_cast<int>(outcomes.size()); ++rank) {
    if (std::find(killed.begin(), killed.end(), rank) != killed.end()) {
      EXPECT_EQ(outcomes[rank].signal, SIGKILL) << trial;
    } else {
      EXPECT_EQ(outcomes[rank].report, "") << trial << ", rank " << rank;
      EXPECT_EQ(outcomes[rank].signal, 0) << trial << ", rank " << rank;
    }
  }
}

// Sizes around where the algorithm changes, so that the kill falls into every one.
TEST(TcpShrinkTest, SurvivorsFinishTheAllReduceWheneverARankIsKilled) {
  std::mt19937 random(4);
  const int num_trials = is_long_test() ? 300 : 16;
  for (int trial = 0; trial < num_trials; ++trial) {
    const int victim = static_cast<int>(random() % 4);
    const auto delay = std::chrono::microseconds(random() % 20'000);
    const size_t count = trial % 2 ? 1'000'003 : 5;
    const char* algorithm = trial % 4 < 2 ? "tree" : "ring";
    const auto outcomes = run_rank_processes(
        4,
        [&](Communicator& communicator) {
          return Survivor(communicator, count).run(trial % 2 ? 12 : 300, [&](int round) {
            if (round == 2 && communicator.rank() == victim) die_after(delay);
            if (round == 11) std::this_thread::sleep_for(25ms);  // so that nobody finishes before
          });
        },
        tcp(true, algorithm));
    expect_survival(outcomes, {victim},
                    concat("trial ", trial, ": rank ", victim, " killed after ", delay.count(),
                           " us, ", algorithm, ", ", count, " values"));
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(TcpShrinkTest, TwoDeathsAtOnceAndAThirdLater) {
  const auto outcomes = run_rank_processes(
      6,
      [](Communicator& communicator) {
        const int rank = communicator.rank();
        return Survivor(communicator, 100'000).run(60, [&](int round) {
          if (round == 5 && (rank == 0 || rank == 4)) ::kill(::getpid(), SIGKILL);
          if (round == 40 && rank == 2) ::kill(::getpid(), SIGKILL);
        });
      },
      tcp(true));
  expect_survival(outcomes, {0, 2, 4}, "three deaths");
}

TEST(TcpShrinkTest, ADeathDuringTheAgreementIsTolerated) {
  std::mt19937 random(7);
  for (int trial = 0; trial < (is_long_test() ? 100 : 8); ++trial) {
    const auto delay = std::chrono::microseconds(random() % 8'000);
    const auto outcomes = run_rank_processes(
        5,
        [&](Communicator& communicator) {
          const int rank = communicator.rank();
          return Survivor(communicator, 50'000).run(40, [&](int round) {
            if (round != 5) return;
            if (rank == 1) ::kill(::getpid(), SIGKILL);
            if (rank == 0) die_after(delay);
            if (rank != 0) std::this_thread::sleep_for(1ms);
          });
        },
        tcp(true));
    expect_survival(outcomes, {0, 1},
                    concat("trial ", trial, ", second death after ", delay.count(), " us"));
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(TcpShrinkTest, WithoutKeptInputsTheGroupGoesOnWithoutTheCall) {
  const auto outcomes = run_rank_processes(
      3,
      [](Communicator& communicator) -> std::string {
        std::vector<float> data(10'000, 1.0f);
        if (communicator.rank() == 2) die_after(5ms);
        try {
          for (;;) communicator.all_reduce(std::span(data), ReduceOp::kAvg);
        } catch (const Unavailable&) {
        }
        Survivors left = communicator.shrink();
        if (left.interrupted != Interrupted::kNone && left.interrupted != Interrupted::kUntouched)
          return "the call cannot have been finished";
        if (left.lost != std::vector<int>{2}) return "the wrong rank was counted as lost";
        if (left.communicator->size() != 2) return "the wrong size";
        std::vector<int32_t> sum = {communicator.rank() + 1};
        left.communicator->all_reduce(std::span(sum));
        return sum[0] == 3 ? "" : "wrong sum";
      },
      tcp());
  expect_survival(outcomes, {2}, "no recovery");
}

TEST(TcpShrinkTest, AfterAMistakeAllGoOnTogether) {
  const auto errors = errors_of_ranks(
      3,
      [](Communicator& communicator) {
        std::vector<float> data(100, 1.0f);
        try {
          if (communicator.rank() == 1)
            communicator.barrier();
          else
            communicator.all_reduce(std::span(data));
          FAIL() << "the mistake was not found";
        } catch (const Error&) {
        }
        const Survivors left = communicator.shrink();
        EXPECT_TRUE(left.lost.empty());
        EXPECT_EQ(left.communicator->size(), 3);
        left.communicator->barrier();
      },
      tcp());
  for (const auto& error : errors) EXPECT_EQ(error, "");
}

TEST(TcpShrinkTest, WhoDoesNotComeCountsAsLostAndIsTold) {
  auto options = tcp();
  options.timeout = 700ms;
  const auto errors = errors_of_ranks(
      3,
      [](Communicator& communicator) {
        if (communicator.rank() == 0) communicator.abort("enough");
        if (communicator.rank() == 2) {
          std::this_thread::sleep_for(1500ms);
          communicator.shrink();
          return;
        }
        const Survivors left = communicator.shrink();
        EXPECT_EQ(left.lost, std::vector<int>{2});
        left.communicator->barrier();
        std::this_thread::sleep_for(1500ms);
      },
      options);
  EXPECT_EQ(errors[0], "");
  EXPECT_EQ(errors[1], "");
  EXPECT_TRUE(contains(errors[2], "counts this rank 2 as lost")) << errors[2];
}

TEST(TcpHeartbeatTest, AFrozenRankIsNamedWithinASecondAndTheOthersGoOn) {
  const auto outcomes = run_rank_processes(
      4,
      [](Communicator& communicator) -> std::string {
        std::vector<float> data(1000, 1.0f);
        Clock::time_point last = Clock::now();
        try {
          for (int round = 0;; ++round) {
            if (round == 50 && communicator.rank() == 2) ::raise(SIGSTOP);
            communicator.all_reduce(std::span(data), ReduceOp::kAvg);
            last = Clock::now();
          }
        } catch (const Unavailable& error) {
          const auto elapsed = Clock::now() - last;
          if (elapsed > 1s) return concat("found after ", elapsed / 1ms, " ms");
          if (!contains(error.what(), "rank 2 (pid ")) return error.what();
          if (!contains(error.what(), "is frozen or cannot be reached")) return error.what();
        }
        const Survivors left = communicator.shrink();
        if (left.lost != std::vector<int>{2}) return "the wrong rank was counted as lost";
        left.communicator->barrier();
        return "";
      },
      tcp());
  for (int rank : {0, 1, 3}) EXPECT_EQ(outcomes[rank].report, "");
}

// Frozen ranks may live on the other side of a split network.
TEST(TcpHeartbeatTest, OnlyOneHalfOfASplitGroupGoesOn) {
  for (const int first_frozen : {0, 2}) {
    const auto outcomes = run_rank_processes(
        4,
        [&](Communicator& communicator) -> std::string {
          std::vector<float> data(1000, 1.0f);
          const int rank = communicator.rank();
          try {
            for (int round = 0;; ++round) {
              if (round == 5 && rank / 2 == first_frozen / 2) ::raise(SIGSTOP);
              communicator.all_reduce(std::span(data), ReduceOp::kAvg);
            }
          } catch (const Unavailable&) {
          }
          try {
            communicator.shrink().communicator->barrier();
            return "went on";
          } catch (const Unavailable& error) {
            return error.what();
          }
        },
        tcp());
    const int survivor = first_frozen == 0 ? 2 : 0;
    for (int rank : {survivor, survivor + 1}) {
      EXPECT_TRUE(contains(outcomes[rank].report,
                           first_frozen == 0 ? "the larger part of a split network" : "went on"))
          << outcomes[rank].report;
    }
  }
}

TEST(TcpHeartbeatTest, AComputingRankIsNoAlarm) {
  const auto pause = is_long_test() ? 30s : 2s;
  auto options = tcp();
  options.timeout = pause + 20s;  // which is not what this is about
  const auto errors = errors_of_ranks(
      3,
      [&](Communicator& communicator) {
        communicator.barrier();
        const auto end = Clock::now() + pause;
        if (communicator.rank() == 1)
          while (Clock::now() < end) {
          }
        communicator.barrier();
      },
      options);
  for (const auto& error : errors) EXPECT_EQ(error, "");
}

// 16 ranks that compute all the time, with threads of their own, on whatever cores there are.
TEST(TcpHeartbeatTest, ALoadedMachineIsNoAlarm) {
  const auto duration = loaded_time();
  auto options = tcp();
  options.timeout = 60s;
  const auto outcomes = run_rank_processes(
      16,
      [&](Communicator& communicator) -> std::string {
        std::vector<int32_t> go_on = {1};
        const auto end = Clock::now() + duration;
        while (go_on[0] > 0) {
          for (const auto busy = Clock::now() + 20ms; Clock::now() < busy;) {
          }
          go_on[0] = Clock::now() < end;
          communicator.all_reduce(std::span(go_on), ReduceOp::kMin);
        }
        return "";
      },
      options, duration + 60s);
  for (const auto& outcome : outcomes) {
    EXPECT_EQ(outcome.report, "");
    EXPECT_EQ(outcome.signal, 0);
  }
}

TEST(TcpReportTest, AnErrorSaysWhatEveryOtherRankWasDoing) {
  auto options = tcp();
  options.timeout = 600ms;
  const auto errors = errors_of_ranks(
      3,
      [](Communicator& communicator) {
        std::vector<double> data(7);
        communicator.all_reduce(std::span(data), ReduceOp::kMax);
        if (communicator.rank() == 2) std::this_thread::sleep_for(1500ms);
        communicator.barrier();
      },
      options);
  const std::string& error = contains(errors[0], "PeerFailure: rank 1 ") ? errors[1] : errors[0];
  EXPECT_TRUE(contains(error, "did not arrive in barrier #2 at tcp_faults_test.cc:")) << error;
  EXPECT_TRUE(contains(error, "rank 2 (pid ")) << error;
  EXPECT_TRUE(contains(error, "between calls for ")) << error;
  EXPECT_TRUE(contains(error, "last all_reduce #1 (max of 7 float64) at tcp_faults_test.cc:"))
      << error;
  EXPECT_TRUE(contains(error, "in barrier #2 at tcp_faults_test.cc:")) << error;
}

// Times as a clock would give them, one beat after another.
class BeatSequence {
 public:
  // True if the peer counts as lost within `beats` of silence.
  bool silence(int beats, Clock::duration late = 0ms) {
    bool is_lost = false;
    for (int i = 0; i < beats; ++i) {
      now_ += kBeatInterval + late;
      lateness_.note(late);
      is_lost |= watch_.is_lost(now_, lateness_.is_on_time(), lateness_.recent());
    }
    return is_lost;
  }
  void heard() { watch_.heard(now_); }

 private:
  Clock::time_point now_ = Clock::now();
  SilenceWatch watch_;
  OwnLateness lateness_;
};

TEST(SilenceWatchTest, SevenBeatsOfSilenceAreLostAndFiveAreNot) {
  BeatSequence beats;
  beats.heard();
  EXPECT_FALSE(beats.silence(6));
  beats.heard();
  EXPECT_TRUE(beats.silence(8)) << "800 ms must do, for a second is promised";
}

TEST(SilenceWatchTest, ARankThatIsItselfLateBlamesNobody) {
  BeatSequence beats;
  beats.heard();
  EXPECT_FALSE(beats.silence(30, 80ms));
  // On time again, but not long ago this machine held threads up for 80 ms.
  EXPECT_FALSE(beats.silence(1));
}

TEST(SilenceWatchTest, OneLongPauseOfOurOwnIsNoAlarm) {
  BeatSequence beats;
  beats.heard();
  EXPECT_FALSE(beats.silence(1, 30s));
}

TEST(SilenceWatchTest, AStoppedThreadIsNotStarvedAndABusyOneIs) {
  const pid_t busy = ::fork();
  if (busy == 0)
    for (;;) {
    }
  std::this_thread::sleep_for(50ms);
  EXPECT_TRUE(is_starved(busy, busy));
  ::kill(busy, SIGSTOP);
  ::waitpid(busy, nullptr, WUNTRACED);
  EXPECT_FALSE(is_starved(busy, busy));
  ::kill(busy, SIGKILL);
  ::waitpid(busy, nullptr, 0);
  EXPECT_FALSE(is_starved(busy, busy));
}

}  // namespace
}  // namespace deepseek_train::collectives
