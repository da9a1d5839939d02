// The ranks of one host in step with each other: publishing, waiting, noticing who is gone.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "collectives/transport/shm/layout.h"
#include "collectives/transport/shm/mapping.h"
#include "collectives/transport/shm/peer_watch.h"

namespace deepseek_train::collectives {

// Every rank counts its steps in shared memory; all ranks take the same steps, so "all have reached
// step s" is a barrier. A waiter spins for some 30 us, then sleeps on a futex and looks every few
// milliseconds whether a rank has died, stopped or left. One thread at a time, save fail().
class ShmGroup {
 public:
  // `expected`: the ranks' processes if they are known beforehand, so that one that dies before it
  // joins is not waited for.
  ShmGroup(const std::string& job_id, int rank, int size, std::chrono::milliseconds timeout,
           std::span<const ProcessId> expected = {});
  // Over a segment that is already mapped and joined by all.
  ShmGroup(Mapping segment, int rank, int size, std::chrono::milliseconds timeout);
  ~ShmGroup();
  // Tells the others that this rank has left.
  void close();

  int rank() const { return rank_; }
  int size() const { return size_; }
  std::chrono::milliseconds timeout() const { return timeout_; }
  const SegmentLayout& layout() const { return layout_; }
  PeerWatch& watch() { return watch_; }

  // Shows the call to the others, with a digest of what all must agree on, and takes the step that
  // opens it. Returns that step's number.
  uint32_t open_call(const CallSignature& call, uint32_t digest);
  void open_message(const CallSignature& message);
  // For reports: this rank is back in its caller's hands.
  void leave_call();
  // Of the call the rank is in, which may be one later than ours.
  uint32_t digest_of(int rank) const { return layout_.rank(rank).step.digest(); }
  CallSignature call_of(int rank, uint64_t sequence) const {
    return layout_.rank(rank).calls[sequence % 2].load();
  }

  // Takes a step: what this rank wrote before is visible to whoever sees it. Returns the step's
  // number.
  uint32_t advance();
  // Blocks until every rank has reached `step`. Throws Timeout, Unavailable or PeerFailure.
  void wait_for_all(uint32_t step);
  // Blocks until `counter`, which `peer` moves, has reached `wanted`.
  void wait_for(Counter& counter, uint32_t wanted, int peer);
  // Adds one to a counter of this rank's and wakes its sleepers.
  static void increment(Counter& counter, uint32_t digest = 0);
  bool has_taken(int rank, uint32_t step) const;

  // Ends the group for everybody; the first reason stays. Any thread.
  void fail(std::string_view reason) noexcept;
  void throw_if_failed() const {
    if (layout_.header().abort_state.load(std::memory_order_acquire) != AbortState::kNone)
      throw_failure();
  }

  // Throws Unavailable with a report, or PeerFailure if another rank was first.
  [[noreturn]] void throw_lost(int rank, std::string_view what) const;

  // For long work between waits. Throws Unavailable once a rank has died.
  void look_around();
  // Throws Unavailable if the shrink has gone on to another round: without this rank.
  void check_round(uint32_t round) const {
    if (layout_.header().sealed_round.load(std::memory_order_acquire) != round) throw_left_behind();
  }

  // "rank 1 (pid 7, host a)".
  std::string name_rank(int rank) const;
  // What every other rank is doing, one after another.
  std::string report() const;

 private:
  void sleep_until(Counter& counter, uint32_t wanted, int peer);
  void doze(Counter& counter, uint32_t wanted) const;
  // Throws Unavailable if a rank has died, or if one that is waited for is stopped or has left.
  void check_peers(const Counter& counter, uint32_t wanted, int peer);
  [[noreturn]] void throw_timeout(const Counter& counter, uint32_t wanted, int peer) const;
  [[noreturn]] void throw_failure() const;
  [[noreturn]] void throw_left_behind() const;
  bool is_step(const Counter& counter, int peer) const {
    return &counter == &layout_.rank(peer).step;
  }
  RankBlock& mine() const { return layout_.rank(rank_); }
  std::string describe_rank(int rank) const;
  std::string current_call() const;

  const int rank_;
  const int size_;
  const std::chrono::milliseconds timeout_;
  const bool may_spin_;
  const std::string host_;
  Mapping mapping_;
  SegmentLayout layout_;
  PeerWatch watch_;
  uint32_t step_ = 0;
  uint32_t digest_ = 0;
  int suspect_ = 0;  // of the next look_around()
};

}  // namespace deepseek_train::collectives
