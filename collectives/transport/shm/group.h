// The ranks of one host in step with each other: publishing, waiting, noticing who is gone.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "collectives/transport/shm/layout.h"
#include "collectives/transport/shm/mapping.h"

namespace deepseek_train::collectives {

// Every rank counts its steps in shared memory; all ranks take the same steps, so "all have reached
// step s" is a barrier. A waiter spins for some 30 us, then sleeps on a futex and looks every 50 ms
// whether a rank has died or left. One thread at a time, save fail().
class ShmGroup {
 public:
  ShmGroup(const std::string& job_id, int rank, int size, std::chrono::milliseconds timeout);
  // Tells the others that this rank has left.
  ~ShmGroup();

  int rank() const { return rank_; }
  int size() const { return size_; }
  std::chrono::milliseconds timeout() const { return timeout_; }
  const SegmentLayout& layout() const { return layout_; }

  // The call that the following waits belong to, for their messages.
  void set_current(const CallSignature& call) { current_ = call; }

  // Takes a step: what this rank wrote before is visible to whoever sees it. Returns the step's
  // number.
  uint32_t advance();
  // Blocks until every rank has reached `step`. Throws Timeout, Unavailable or PeerFailure.
  void wait_for_all(uint32_t step);
  // Blocks until `counter`, which `peer` moves, has reached `wanted`.
  void wait_for(Counter& counter, uint32_t wanted, int peer);
  // Adds one to a counter of this rank's and wakes its sleepers.
  static void increment(Counter& counter);

  // Ends the group for everybody; the first reason stays. Any thread.
  void fail(std::string_view reason) noexcept;
  void throw_if_failed() const;

 private:
  void sleep_until(Counter& counter, uint32_t wanted, int peer);
  // Throws Unavailable if a rank that is waited for has died or left.
  void check_presence(const Counter& counter, uint32_t wanted, int peer) const;
  [[noreturn]] void throw_timeout(const Counter& counter, uint32_t wanted, int peer) const;
  bool is_step(const Counter& counter, int peer) const {
    return &counter == &layout_.rank(peer).step;
  }
  std::string name_rank(int rank) const;

  const int rank_;
  const int size_;
  const std::chrono::milliseconds timeout_;
  const bool may_spin_;
  Mapping mapping_;
  SegmentLayout layout_;
  CallSignature current_;
  uint32_t step_ = 0;
};

}  // namespace deepseek_train::collectives
