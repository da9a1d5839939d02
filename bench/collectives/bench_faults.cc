// How soon a killed or frozen rank is found, and the same all_reduce finished without it:
//   bench_faults [--transport shm|tcp] [--signal kill|stop] [--ranks 4] [--bytes 67108864]
//   [--trials 100]
//
// Each trial forks the ranks, which all_reduce one buffer over and over; at a random moment a
// random rank gets the signal. "found": until the survivors' call has thrown, the last of them.
// "finished": until they have shrunk the group and the last holds the result, which is checked: a
// sum that includes the lost rank everywhere or nowhere, as Survivors says. Prints median and 99th
// percentile of each over the trials, as JSON.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <random>
#include <thread>

#include "bench/collectives/timing.h"
#include "deepseek_train/collectives/communicator.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::bench {
namespace {

using namespace deepseek_train::collectives;
using Clock = std::chrono::steady_clock;

struct Options {
  std::string transport = "shm";
  std::string signal = "kill";
  int ranks = 4;
  size_t bytes = 64 << 20;
  int trials = 100;
};

int64_t nanoseconds_now() { return Clock::now().time_since_epoch().count(); }

// What the ranks of a trial tell their parent; in memory shared by all.
struct Board {
  struct Rank {
    std::atomic<int64_t> calls;
    std::atomic<int64_t> found_at;
    std::atomic<int64_t> finished_at;
    std::atomic<int> outcome;  // 0: none yet, 1: right, 2: wrong
    char error[512];
  };
  std::atomic<int64_t> struck_at;
  Rank ranks[64];
};

// The value every element must have, given which ranks took part; -1 if neither sum fits.
bool is_right(std::span<const float> data, const Survivors& survivors, int ranks, int64_t call) {
  float sum = 0;
  for (int r = 0; r < ranks; ++r) {
    const bool is_lost =
        std::find(survivors.lost.begin(), survivors.lost.end(), r) != survivors.lost.end();
    if (!is_lost || survivors.interrupted == Survivors::Interrupted::kIncludesLost)
      sum += static_cast<float>(r + 1 + call % 7);
  }
  return std::all_of(data.begin(), data.end(), [sum](float value) { return value == sum; });
}

void run_rank(const Options& options, int rank, const std::string& job, int port, Board& board) {
  Board::Rank& mine = board.ranks[rank];
  CommunicatorOptions communication;
  communication.launch = {.rank = rank,
                          .size = options.ranks,
                          .local_rank = rank,
                          .local_size = options.ranks,
                          .job_id = job,
                          .rendezvous_host = "127.0.0.1",
                          .rendezvous_port = port};
  communication.transport = options.transport;
  communication.recoverable = true;
  communication.timeout = std::chrono::seconds(10);
  const auto communicator = make_communicator(communication);
  const auto buffer = communicator->allocate_shared(options.bytes);
  const auto data = buffer->as<float>();
  int64_t call = 0;
  try {
    for (;; ++call) {
      std::fill(data.begin(), data.end(), static_cast<float>(rank + 1 + call % 7));
      communicator->all_reduce(data);
      mine.calls.store(call + 1);
    }
  } catch (const Unavailable& error) {
    mine.found_at = nanoseconds_now();
    std::snprintf(mine.error, sizeof(mine.error), "%s", error.what());
  }
  auto survivors = communicator->shrink();
  mine.finished_at = nanoseconds_now();
  // Otherwise some survivor had not come to the call, and the caller would make it again.
  bool right = survivors.communicator->size() == options.ranks - 1;
  if (survivors.interrupted == Survivors::Interrupted::kIncludesLost ||
      survivors.interrupted == Survivors::Interrupted::kWithoutLost)
    right = right && is_right(data, survivors, options.ranks, call);
  float one = 1;
  survivors.communicator->all_reduce(std::span(&one, 1));
  mine.outcome = right && one == static_cast<float>(options.ranks - 1) ? 1 : 2;
}

struct Trial {
  double found_ms = 0;
  double finished_ms = 0;
};

class FaultBench {
 public:
  explicit FaultBench(const Options& options) : options_(options) {
    void* memory =
        ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    DST_CHECK_AS(Unavailable, memory != MAP_FAILED, "no memory for the ranks' board");
    board_ = new (memory) Board();
  }

  void run() {
    std::vector<double> found, finished;
    for (int t = 0; t < options_.trials; ++t) {
      const Trial trial = run_trial(t);
      found.push_back(trial.found_ms);
      finished.push_back(trial.finished_ms);
    }
    report("found", found);
    report("finished", finished);
  }

 private:
  Trial run_trial(int number) {
    std::mt19937 random(static_cast<unsigned>(number));
    new (board_) Board();
    const auto job = concat("bench-faults-", ::getpid(), "-", number);
    std::vector<pid_t> pids;
    for (int rank = 0; rank < options_.ranks; ++rank) pids.push_back(fork_rank(rank, job));
    wait_for([&] { return board_->ranks[0].calls.load() >= 2; }, "the ranks' first calls");
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
    const int victim = static_cast<int>(random() % options_.ranks);
    board_->struck_at = nanoseconds_now();
    ::kill(pids[victim], options_.signal == "stop" ? SIGSTOP : SIGKILL);
    wait_for([&] { return all_survivors(victim, [](auto& r) { return r.outcome.load() != 0; }); },
             "the survivors");
    ::kill(pids[victim], SIGKILL);
    for (const pid_t pid : pids) ::waitpid(pid, nullptr, 0);
    Trial trial;
    for (int rank = 0; rank < options_.ranks; ++rank) {
      if (rank == victim) continue;
      const auto& survivor = board_->ranks[rank];
      DST_CHECK_AS(Internal, survivor.outcome == 1, "trial ", number, ", rank ", victim,
                   " struck: rank ", rank, " has a wrong result; it had seen: ", survivor.error);
      trial.found_ms = std::max(trial.found_ms, since_strike(survivor.found_at));
      trial.finished_ms = std::max(trial.finished_ms, since_strike(survivor.finished_at));
    }
    return trial;
  }

  pid_t fork_rank(int rank, const std::string& job) {
    const pid_t pid = ::fork();
    DST_CHECK_AS(Unavailable, pid >= 0, "cannot fork a rank");
    if (pid > 0) return pid;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    try {
      run_rank(options_, rank, job, 29'600, *board_);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
      board_->ranks[rank].outcome = 2;
    }
    ::_exit(0);
  }

  template <typename Condition>
  bool all_survivors(int victim, const Condition& condition) {
    for (int rank = 0; rank < options_.ranks; ++rank) {
      if (rank != victim && !condition(board_->ranks[rank])) return false;
    }
    return true;
  }

  template <typename Condition>
  static void wait_for(const Condition& condition, const char* what) {
    for (const auto stop = Clock::now() + std::chrono::seconds(60); !condition();) {
      DST_CHECK_AS(Timeout, Clock::now() < stop, "a minute was not enough for ", what);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  double since_strike(int64_t time) const {
    return static_cast<double>(time - board_->struck_at.load()) / 1e6;
  }

  void report(const char* name, std::vector<double> times) const {
    std::sort(times.begin(), times.end());
    const double p99 = times[static_cast<size_t>(std::ceil(0.99 * times.size())) - 1];
    for (const auto& [what, value] : {std::pair("median", times[times.size() / 2]), {"p99", p99}})
      std::printf("%s\n", concat("{\"name\": \"fault_", name, "_", what, "\", \"value\": ",
                                 fixed(value, 1), ", \"unit\": \"ms\", \"config\": {\"signal\": \"",
                                 options_.signal, "\", \"bytes\": ", options_.bytes,
                                 ", \"ranks\": ", options_.ranks, ", \"transport\": \"",
                                 options_.transport, "\", \"trials\": ", options_.trials, "}}")
                              .c_str());
  }

  const Options options_;
  Board* board_;
};

}  // namespace
}  // namespace deepseek_train::bench

int main(int count, char** values) try {
  deepseek_train::bench::Options options;
  CLI::App app("How soon a lost rank is found and the interrupted all_reduce finished");
  app.add_option("--transport", options.transport)->check(CLI::IsMember({"shm", "tcp"}));
  app.add_option("--signal", options.signal)->check(CLI::IsMember({"kill", "stop"}));
  app.add_option("--ranks", options.ranks)->check(CLI::Range(2, 64));
  app.add_option("--bytes", options.bytes)->check(CLI::PositiveNumber);
  app.add_option("--trials", options.trials)->check(CLI::PositiveNumber);
  CLI11_PARSE(app, count, values);
  deepseek_train::bench::FaultBench(options).run();
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_faults: %s\n", error.what());
  return 1;
}
