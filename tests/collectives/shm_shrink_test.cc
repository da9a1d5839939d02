// Ranks of one host that are killed or stopped at any moment: the others agree who is left, and the
// interrupted all_reduce ends with an exact sum that is the same on all of them.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

#include "collectives/backends/native/native_communicator.h"
#include "collectives/transport/shm/shm_transport.h"
#include "deepseek_train/core/error.h"
#include "tests/support/rank_processes.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;
using Interrupted = Survivors::Interrupted;
using test_support::ProcessOutcome;
using test_support::run_rank_processes;
using test_support::unique_job_id;

bool is_long_run() { return std::getenv("DST_LONG_TESTS") != nullptr; }

// Calls of the probe that this process may still make; the one at zero kills it.
int64_t probes_left = INT64_MAX;
void kill_at_zero(uint64_t) {
  if (probes_left-- == 0) ::raise(SIGKILL);
}

std::unique_ptr<Communicator> make_ranks(const Communicator& base, const std::string& group,
                                         bool recoverable = false,
                                         std::chrono::milliseconds timeout = 20s) {
  ShmTransportOptions options;
  options.group = group;
  options.rank = base.rank();
  options.size = base.size();
  options.timeout = timeout;
  options.recoverable = recoverable;
  options.min_read_bytes = 256 << 10;
  options.probe = kill_at_zero;
  CommunicatorOptions communication;
  communication.timeout = timeout;
  return std::make_unique<NativeCommunicator>(std::make_unique<ShmTransport>(options), group,
                                              communication);
}

// Small whole numbers, so that every sum is exact.
float value_of(int rank, int round, size_t i) {
  return static_cast<float>((rank + 1) * (1 + (i + round) % 13));
}
void fill(std::span<float> data, int rank, int round) {
  for (size_t i = 0; i < data.size(); ++i) data[i] = value_of(rank, round, i);
}
bool is_sum_of(std::span<const float> data, const std::vector<int>& ranks, int round) {
  int factor = 0;
  for (int rank : ranks) factor += rank + 1;
  for (size_t i = 0; i < data.size(); ++i)
    if (data[i] != static_cast<float>(factor) * static_cast<float>(1 + (i + round) % 13))
      return false;
  return true;
}

std::vector<int> all_but(int size, const std::vector<int>& lost) {
  std::vector<int> ranks;
  for (int r = 0; r < size; ++r) {
    if (std::find(lost.begin(), lost.end(), r) == lost.end()) ranks.push_back(r);
  }
  return ranks;
}

void expect_survivors(const std::vector<ProcessOutcome>& outcomes, const std::vector<int>& lost,
                      const std::string& report, const std::string& what) {
  for (int r = 0; r < static_cast<int>(outcomes.size()); ++r) {
    if (std::find(lost.begin(), lost.end(), r) != lost.end())
      EXPECT_EQ(outcomes[r].signal, SIGKILL) << what << ", rank " << r;
    else
      EXPECT_EQ(outcomes[r].report, report) << what << ", rank " << r;
  }
}

// The new group works, on the old buffers too.
std::string check_successor(Survivors& survivors, std::span<float> data,
                            const std::vector<int>& left, int old_rank) {
  Communicator& next = *survivors.communicator;
  if (next.size() != static_cast<int>(left.size())) return "wrong number of survivors";
  if (left[next.rank()] != old_rank) return "wrong order of survivors";
  next.barrier();
  fill(data, old_rank, 77);
  next.all_reduce(data);
  const bool is_right = is_sum_of(data, left, 77);
  next.barrier();
  return is_right ? "exact" : "wrong sum in the new group";
}

// --- killed at every step of the journal

constexpr int kRanks = 4;
constexpr size_t kBlocks = 6;
constexpr size_t kCount = kRanks * kBlocks * kJournalBytes / sizeof(float) - 1000;
// Per block: the mark, a copy to every buffer, the end.
constexpr int64_t kProbes = kBlocks * (2 + kRanks);

std::string reduce_and_survive(Communicator& base, const std::string& group, int64_t own_probes,
                               const std::vector<int>& lost) {
  const auto communicator = make_ranks(base, group);
  const auto buffer = communicator->allocate_shared(kCount * sizeof(float));
  const auto data = buffer->as<float>();
  fill(data, base.rank(), 3);
  communicator->barrier();
  probes_left = own_probes;
  try {
    communicator->all_reduce(data);
    return "returned though a rank died";
  } catch (const Unavailable&) {
  }
  Survivors survivors = communicator->shrink();
  if (survivors.lost != lost) return "wrong ranks lost";
  if (survivors.interrupted != Interrupted::kIncludesLost) return "not finished";
  if (!is_sum_of(data, all_but(base.size(), {}), 3)) return "wrong sum";
  return check_successor(survivors, data, all_but(base.size(), lost), base.rank());
}

TEST(ShmShrinkTest, AnArenaSumIsFinishedWhereverItsRankIsKilled) {
  const int num_trials = is_long_run() ? 1000 : 50;
  std::mt19937 generator(20261123);
  for (int trial = 0; trial < num_trials; ++trial) {
    const int victim = static_cast<int>(generator() % kRanks);
    // Every step once, then at random. The last rank's slice is shorter: its last block stays.
    const int64_t kill_at = (trial < kProbes ? trial : generator()) % (kProbes - 2 - kRanks);
    const std::string group = unique_job_id();
    const auto outcomes = run_rank_processes(
        kRanks,
        [&](Communicator& base) {
          return reduce_and_survive(base, group, base.rank() == victim ? kill_at : INT64_MAX,
                                    {victim});
        },
        {});
    expect_survivors(outcomes, {victim}, "exact",
                     concat("trial ", trial, ", kill at ", kill_at, " of rank ", victim));
    if (HasFailure()) return;
  }
}

TEST(ShmShrinkTest, ADeathWhileTheSurvivorsFinishIsSurvivedToo) {
  const int num_trials = is_long_run() ? 200 : 15;
  std::mt19937 generator(7);
  for (int trial = 0; trial < num_trials; ++trial) {
    // Rank 1 dies in its first block. Its slice falls to the second of {0, 2, 3}, which dies in it.
    const int64_t second = kProbes + generator() % (kProbes - 2 - kRanks);
    const std::string group = unique_job_id();
    const auto outcomes = run_rank_processes(
        kRanks,
        [&](Communicator& base) {
          const int64_t own = base.rank() == 1 ? 0 : base.rank() == 2 ? second : INT64_MAX;
          return reduce_and_survive(base, group, own, {1, 2});
        },
        {});
    expect_survivors(outcomes, {1, 2}, "exact", concat("second death at ", second));
    if (HasFailure()) return;
  }
}

// --- killed at any time, by the clock

enum class Memory { kArena, kPrivate };

// A rank's view of a job that goes on after a loss.
class Job {
 public:
  Job(Communicator& base, std::unique_ptr<Communicator> communicator, int victim)
      : base_(base), communicator_(std::move(communicator)), victim_(victim) {}

  // Empty if the sum is that of the ranks it must include.
  std::string reduce(std::span<float> data, int round) {
    fill(data, base_.rank(), round);
    std::vector<int> included = ranks_;
    try {
      communicator_->all_reduce(data);
    } catch (const Unavailable&) {
      const auto interrupted = shrink();
      if (interrupted == Interrupted::kNone) return "gave up";
      if (interrupted != Interrupted::kIncludesLost) included = ranks_;
      if (interrupted == Interrupted::kUntouched) communicator_->all_reduce(data);
    }
    if (lost_wrongly_) return "wrong ranks lost";
    return is_sum_of(data, included, round) ? "" : concat("wrong sum in round ", round);
  }

  void barrier() {
    try {
      communicator_->barrier();
    } catch (const Unavailable&) {
      shrink();
      communicator_->barrier();
    }
  }

 private:
  Interrupted shrink() {
    Survivors survivors = communicator_->shrink();
    lost_wrongly_ = survivors.lost != std::vector<int>{victim_};
    communicator_ = std::move(survivors.communicator);
    ranks_ = all_but(base_.size(), {victim_});
    return survivors.interrupted;
  }

  Communicator& base_;
  std::unique_ptr<Communicator> communicator_;
  const int victim_;
  std::vector<int> ranks_ = all_but(base_.size(), {});
  bool lost_wrongly_ = false;
};

std::string reduce_rounds(Communicator& base, const std::string& group, int victim,
                          std::chrono::microseconds life, Memory memory) {
  auto communicator = make_ranks(base, group, /*recoverable=*/memory == Memory::kPrivate);
  constexpr size_t kFloats = 150'001;
  const auto buffer = communicator->allocate_shared(kFloats * sizeof(float));
  std::vector<float> own(kFloats);
  const auto data = memory == Memory::kArena ? buffer->as<float>() : std::span(own);
  communicator->barrier();
  Job job(base, std::move(communicator), victim);
  if (base.rank() == victim) {
    std::thread([life] {
      std::this_thread::sleep_for(life);
      ::kill(::getpid(), SIGKILL);
    }).detach();
  }
  for (int round = 0; round < 60; ++round) {
    // Two ways through private memory.
    const auto part = memory == Memory::kPrivate && round % 2 ? data.first(20'000) : data;
    if (const std::string error = job.reduce(part, round); !error.empty()) return error;
  }
  job.barrier();
  if (base.rank() == victim) std::this_thread::sleep_for(10s);  // its end is coming
  return "exact";
}

void kill_by_the_clock(Memory memory, int num_trials) {
  std::mt19937 generator(99);
  for (int trial = 0; trial < num_trials; ++trial) {
    const int victim = static_cast<int>(generator() % 3);
    const std::chrono::microseconds life(generator() % 15'000);
    const std::string group = unique_job_id();
    const auto outcomes = run_rank_processes(
        3, [&](Communicator& base) { return reduce_rounds(base, group, victim, life, memory); },
        {});
    expect_survivors(outcomes, {victim}, "exact",
                     concat("trial ", trial, ", ", life.count(), " us"));
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(ShmShrinkTest, ADeathAtAnyTimeLeavesArenaSumsExact) {
  kill_by_the_clock(Memory::kArena, is_long_run() ? 500 : 25);
}

TEST(ShmShrinkTest, ADeathAtAnyTimeLeavesRecoverablePrivateSumsExact) {
  kill_by_the_clock(Memory::kPrivate, is_long_run() ? 500 : 25);
}

// --- other ways to be lost

TEST(ShmShrinkTest, ARankKilledBetweenCallsIsLeftOut) {
  enum class Way { kArena, kKept, kPrivate };
  for (const Way way : {Way::kArena, Way::kKept, Way::kPrivate}) {
    const std::string group = unique_job_id();
    const auto outcomes = run_rank_processes(
        3,
        [&](Communicator& base) -> std::string {
          const bool is_recoverable = way == Way::kKept;
          const auto communicator = make_ranks(base, group, is_recoverable);
          const auto buffer = communicator->allocate_shared(50'000 * sizeof(float));
          std::vector<float> own(50'000);
          const auto data = way == Way::kArena ? buffer->as<float>().first(50'000) : std::span(own);
          communicator->barrier();
          if (base.rank() == 0) ::raise(SIGKILL);
          fill(data, base.rank(), 5);
          try {
            communicator->all_reduce(data);
            return "returned though a rank was dead";
          } catch (const Unavailable& error) {
            if (!std::strstr(error.what(), "rank 0 (pid ")) return error.what();
          }
          Survivors survivors = communicator->shrink();
          // Private memory that need not live any more is left alone; the caller does it again.
          if (way == Way::kPrivate) {
            if (survivors.interrupted != Interrupted::kUntouched) return "touched";
            survivors.communicator->all_reduce(data);
          } else if (survivors.interrupted != Interrupted::kWithoutLost) {
            return "not redone";
          }
          if (!is_sum_of(data, {1, 2}, 5)) return "wrong sum";
          return check_successor(survivors, data, {1, 2}, base.rank());
        },
        {});
    expect_survivors(outcomes, {0}, "exact", concat("way ", static_cast<int>(way)));
  }
}

TEST(ShmShrinkTest, TwoLossesOneAfterTheOther) {
  const std::string group = unique_job_id();
  const auto outcomes = run_rank_processes(
      4,
      [&](Communicator& base) -> std::string {
        auto communicator = make_ranks(base, group);
        const auto buffer = communicator->allocate_shared(kCount * sizeof(float));
        const auto data = buffer->as<float>();
        std::vector<int> left = all_but(4, {});
        for (const int victim : {3, 1}) {
          fill(data, base.rank(), victim);
          communicator->barrier();
          if (base.rank() == victim) probes_left = 7;
          try {
            communicator->all_reduce(data);
            return "returned though a rank died";
          } catch (const Unavailable&) {
          }
          Survivors survivors = communicator->shrink();
          if (survivors.interrupted != Interrupted::kIncludesLost) return "not finished";
          if (!is_sum_of(data, left, victim)) return "wrong sum";
          std::erase(left, victim);
          const auto next = check_successor(survivors, data, left, base.rank());
          if (next != "exact") return next;
          communicator = std::move(survivors.communicator);
        }
        return "exact";
      },
      {});
  expect_survivors(outcomes, {1, 3}, "exact", "two losses");
}

TEST(ShmShrinkTest, ARankKilledWhileOthersAreInABarrier) {
  const std::string group = unique_job_id();
  const auto outcomes = run_rank_processes(
      3,
      [&](Communicator& base) -> std::string {
        const auto communicator = make_ranks(base, group);
        communicator->barrier();
        if (base.rank() == 2) {
          std::this_thread::sleep_for(50ms);
          ::raise(SIGKILL);
        }
        try {
          communicator->barrier();
          return "returned though a rank died";
        } catch (const Unavailable&) {
        }
        Survivors survivors = communicator->shrink();
        if (survivors.interrupted != Interrupted::kNone) return "something was interrupted";
        survivors.communicator->barrier();
        return survivors.lost == std::vector<int>{2} ? "exact" : "wrong ranks lost";
      },
      {});
  expect_survivors(outcomes, {2}, "exact", "barrier");
  for (int survivor : {0, 1}) EXPECT_LT(outcomes[survivor].elapsed, 3s);
}

TEST(ShmShrinkTest, PrivateMemoryWithoutTheOptionIsGivenUpOnceAllHadEntered) {
  const std::string group = unique_job_id();
  const auto outcomes = run_rank_processes(
      2,
      [&](Communicator& base) -> std::string {
        const auto communicator = make_ranks(base, group);
        std::vector<float> data(size_t{16} << 20);
        communicator->barrier();
        // Long enough for both to be in it.
        if (base.rank() == 1)
          std::thread([] {
            std::this_thread::sleep_for(4ms);
            ::kill(::getpid(), SIGKILL);
          }).detach();
        try {
          for (;;) communicator->all_reduce(std::span(data));
        } catch (const Unavailable&) {
        }
        Survivors survivors = communicator->shrink();
        if (survivors.communicator->size() != 1) return "wrong size";
        // By chance it may have died between two calls.
        return survivors.interrupted == Interrupted::kIncludesLost ? "claims too much" : "exact";
      },
      {});
  expect_survivors(outcomes, {1}, "exact", "private");
}

// A stopped rank is lost; when it goes on it is told so and does no harm.
TEST(ShmShrinkTest, AStoppedRankIsLostAndToldSoWhenItGoesOn) {
  const std::string group = unique_job_id();
  const auto outcomes = run_rank_processes(
      3,
      [&](Communicator& base) -> std::string {
        const auto communicator = make_ranks(base, group, /*recoverable=*/true);
        const int64_t pid = ::getpid();
        std::vector<int64_t> pids(3);
        communicator->all_gather(std::span(&pid, 1), std::span(pids));
        std::vector<float> data(1000);
        fill(data, base.rank(), 1);
        if (base.rank() == 1) ::raise(SIGSTOP);
        const auto start = std::chrono::steady_clock::now();
        try {
          communicator->all_reduce(std::span(data));
          return "returned";
        } catch (const Unavailable& error) {
          if (base.rank() != 1 && !std::strstr(error.what(), "rank 1 (pid ")) return error.what();
        }
        if (base.rank() == 1) {
          try {
            communicator->shrink();
            return "was taken back";
          } catch (const Unavailable& error) {
            return std::strstr(error.what(), "counted it as lost") ? "told so" : error.what();
          }
        }
        if (std::chrono::steady_clock::now() - start > 2s) return "found too late";
        Survivors survivors = communicator->shrink();
        if (survivors.lost != std::vector<int>{1}) return "wrong ranks lost";
        if (!is_sum_of(data, {0, 2}, 1)) return "wrong sum";
        survivors.communicator->barrier();
        if (base.rank() == 0) {
          ::kill(static_cast<pid_t>(pids[1]), SIGCONT);
          std::this_thread::sleep_for(500ms);
        }
        return "exact";
      },
      {});
  EXPECT_EQ(outcomes[0].report, "exact");
  EXPECT_EQ(outcomes[2].report, "exact");
  EXPECT_EQ(outcomes[1].report, "told so");
}

TEST(ShmShrinkTest, ARankThatComputesRaisesNoAlarm) {
  const auto busy = is_long_run() ? 30s : 2s;
  const std::string group = unique_job_id();
  const auto outcomes = run_rank_processes(
      4,
      [&](Communicator& base) -> std::string {
        const auto communicator = make_ranks(base, group, false, 60s);
        const auto end = std::chrono::steady_clock::now() + busy;
        while (base.rank() != 3 && std::chrono::steady_clock::now() < end) {
        }
        communicator->barrier();
        return "exact";
      },
      {}, 60s);
  expect_survivors(outcomes, {}, "exact", "computing");
}

TEST(ShmShrinkTest, ThreadsShrinkAfterAnAbort) {
  const std::string group = unique_job_id();
  test_support::run_ranks(3, [&](Communicator& base) {
    const auto communicator = make_ranks(base, group);
    communicator->barrier();
    if (base.rank() == 1) communicator->abort("a wish");
    std::vector<float> data(100);
    fill(data, base.rank(), 2);
    EXPECT_THROW(communicator->all_reduce(std::span(data)), Unavailable);
    Survivors survivors = communicator->shrink();
    EXPECT_TRUE(survivors.lost.empty());
    EXPECT_EQ(check_successor(survivors, data, {0, 1, 2}, base.rank()), "exact");
    EXPECT_THROW(communicator->shrink(), InvalidArgument);
  });
}

// --- how fast

// What the ranks of one trial leave for the parent, in nanoseconds of the steady clock.
struct Times {
  std::atomic<int64_t> killed, found[kRanks], finished[kRanks];
};
int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

double at(std::vector<double> values, double quantile) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(quantile * values.size()))];
}

// Issue: found within 20 ms, finished within 250 ms. Asserted only in long runs on a quiet machine.
TEST(ShmShrinkTest, SpeedOfFindingAndFinishing64MiB) {
  const int num_trials = is_long_run() ? 100 : 5;
  auto* times = static_cast<Times*>(
      ::mmap(nullptr, sizeof(Times), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  std::vector<double> found, finished;
  for (int trial = 0; trial < num_trials; ++trial) {
    const std::string group = unique_job_id();
    const auto outcomes = run_rank_processes(
        kRanks,
        [&](Communicator& base) -> std::string {
          const auto communicator = make_ranks(base, group);
          const size_t count = size_t{16} << 20;
          const auto buffer = communicator->allocate_shared(count * sizeof(float));
          const auto data = buffer->as<float>();
          fill(data, base.rank(), trial);
          communicator->barrier();
          if (base.rank() == 1)
            std::thread([&, trial] {
              std::this_thread::sleep_for(2ms + trial % 10 * 1ms);
              times->killed = now_ns();
              ::kill(::getpid(), SIGKILL);
            }).detach();
          try {
            for (;;) communicator->all_reduce(data, ReduceOp::kMax);  // repeatable
          } catch (const Unavailable&) {
            times->found[base.rank()] = now_ns();
          }
          Survivors survivors = communicator->shrink();
          times->finished[base.rank()] = now_ns();
          return survivors.interrupted == Interrupted::kNone ? "gave up" : "exact";
        },
        {});
    expect_survivors(outcomes, {1}, "exact", concat("trial ", trial));
    int64_t first_found = INT64_MAX, last_finished = 0;
    for (int r : {0, 2, 3}) {
      first_found = std::min(first_found, times->found[r].load());
      last_finished = std::max(last_finished, times->finished[r].load());
    }
    found.push_back(static_cast<double>(first_found - times->killed) / 1e6);
    finished.push_back(static_cast<double>(last_finished - times->killed) / 1e6);
  }
  ::munmap(times, sizeof(Times));
  std::printf(
      "killed in 64 MiB on %d ranks, %d trials: found after %.1f ms (p99 %.1f), "
      "finished after %.1f ms (p99 %.1f)\n",
      kRanks, num_trials, at(found, 0.5), at(found, 0.99), at(finished, 0.5), at(finished, 0.99));
  EXPECT_LT(at(finished, 0.5), is_long_run() ? 250 : 5000);
}

}  // namespace
}  // namespace deepseek_train::collectives
