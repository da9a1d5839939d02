// When silence means that a rank is frozen, and not that a machine is busy.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace deepseek_train::collectives {

constexpr std::chrono::milliseconds kBeatInterval{100};

// How late this rank's own heartbeat thread has run lately: what one's own machine does to oneself,
// it may do to others.
class OwnLateness {
 public:
  using Duration = std::chrono::steady_clock::duration;
  void note(Duration late) {
    latest_ = late;
    recent_ = std::max(late, recent_ - recent_ / 64);  // halves in 4 to 5 s
  }
  bool is_on_time() const { return latest_ < kBeatInterval / 2; }
  Duration recent() const { return recent_; }

 private:
  Duration latest_{0};
  Duration recent_{0};
};

// One peer's silence. Lost is who missed six beats at which our own thread ran on time, over a time
// that grows with how late both threads have lately run.
class SilenceWatch {
 public:
  using Clock = std::chrono::steady_clock;

  void heard(Clock::time_point now) {
    heard_ = now;
    num_missed_ = 0;
  }
  // At every beat of our own. `lateness` is the greater of our own and what the peer last reported.
  bool is_lost(Clock::time_point now, bool is_on_time, Clock::duration lateness);
  Clock::duration silence(Clock::time_point now) const { return now - heard_; }

 private:
  Clock::time_point heard_ = Clock::now();
  int num_missed_ = 0;
};

// Whether a thread of this machine wants to run, or waits for a disk, but may not: then its silence
// says nothing. False for a stopped or sleeping one, and where it cannot be known.
bool is_starved(int64_t pid, int64_t thread);

}  // namespace deepseek_train::collectives
