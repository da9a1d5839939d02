#include "collectives/transport/shm/group.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "collectives/transport/shm/futex.h"
#include "collectives/transport/shm/segment.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto kSpinTime = 30us;
constexpr Clock::duration kPresenceInterval = 50ms;

void relax_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

bool has_reached(const Counter& counter, uint32_t wanted) {
  // The difference is signed so that counters may wrap. seq_cst pairs with increment(): see
  // sleep_until.
  return static_cast<int32_t>(counter.value.load(std::memory_order_seq_cst) - wanted) >= 0;
}

}  // namespace

ShmGroup::ShmGroup(const std::string& job_id, int rank, int size, std::chrono::milliseconds timeout)
    : rank_(rank),
      size_(size),
      timeout_(timeout),
      // More ranks than cores: whoever spins keeps the rank it waits for from running.
      may_spin_(static_cast<unsigned>(size) <= std::thread::hardware_concurrency()),
      mapping_(join_segment(segment_name(job_id), rank, size, timeout)),
      layout_(mapping_.data(), size) {}

ShmGroup::~ShmGroup() {
  layout_.rank(rank_).presence.store(Presence::kClosed, std::memory_order_release);
  futex_wake_all(layout_.rank(rank_).step.value);
}

void ShmGroup::increment(Counter& counter) {
  counter.value.fetch_add(1, std::memory_order_seq_cst);
  if (counter.num_sleepers.load(std::memory_order_seq_cst) != 0) futex_wake_all(counter.value);
}

uint32_t ShmGroup::advance() {
  increment(layout_.rank(rank_).step);
  return ++step_;
}

void ShmGroup::wait_for_all(uint32_t step) {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer != rank_) wait_for(layout_.rank(peer).step, step, peer);
  }
}

void ShmGroup::wait_for(Counter& counter, uint32_t wanted, int peer) {
  if (has_reached(counter, wanted)) return;
  if (may_spin_) {
    const auto stop = Clock::now() + kSpinTime;
    do {
      for (int i = 0; i < 32; ++i) {
        relax_cpu();
        if (has_reached(counter, wanted)) return;
      }
    } while (Clock::now() < stop);
  }
  sleep_until(counter, wanted, peer);
}

// No wake-up is lost: the waiter registers, then reads the value; increment() changes the value,
// then reads the number of sleepers; all four are sequentially consistent, so at least one of the
// two sees the other.
void ShmGroup::sleep_until(Counter& counter, uint32_t wanted, int peer) {
  const auto deadline = Clock::now() + timeout_;
  auto next_check = Clock::now() + kPresenceInterval;
  while (!has_reached(counter, wanted)) {
    throw_if_failed();
    counter.num_sleepers.fetch_add(1, std::memory_order_seq_cst);
    const uint32_t value = counter.value.load(std::memory_order_seq_cst);
    if (static_cast<int32_t>(value - wanted) < 0)
      futex_wait(counter.value, value, std::min(kPresenceInterval, Clock::duration(timeout_)));
    counter.num_sleepers.fetch_sub(1, std::memory_order_seq_cst);
    const auto now = Clock::now();
    if (has_reached(counter, wanted)) return;
    if (now >= next_check ||
        layout_.rank(peer).presence.load(std::memory_order_acquire) == Presence::kClosed) {
      check_presence(counter, wanted, peer);
      next_check = now + kPresenceInterval;
    }
    if (now >= deadline) throw_timeout(counter, wanted, peer);
  }
}

void ShmGroup::check_presence(const Counter& counter, uint32_t wanted, int peer) const {
  for (int other = 0; other < size_; ++other) {
    if (other == rank_ || (other != peer && !is_step(counter, peer))) continue;
    const RankBlock& block = layout_.rank(other);
    const bool has_closed = block.presence.load(std::memory_order_acquire) == Presence::kClosed;
    if (!has_closed && is_alive(block.process)) continue;
    // Read after its end was seen: a rank that left in good order has taken its last step before.
    if (has_reached(is_step(counter, peer) ? block.step : counter, wanted)) continue;
    throw_if_failed();
    throw Unavailable(concat(name_rank(other),
                             has_closed ? " has closed its communicator" : " has died",
                             " while this rank waited for it in ", describe(current_)));
  }
}

void ShmGroup::throw_timeout(const Counter& counter, uint32_t wanted, int peer) const {
  throw_if_failed();
  std::string late;
  for (int other = 0; other < size_ && is_step(counter, peer); ++other) {
    if (other != rank_ && !has_reached(layout_.rank(other).step, wanted))
      late += (late.empty() ? "" : ", ") + name_rank(other);
  }
  if (late.empty()) late = name_rank(peer);
  throw Timeout(concat(late, " did not arrive in ", describe(current_), " within ",
                       timeout_.count(),
                       " ms; it hangs, is busy elsewhere, or needs a longer timeout"));
}

std::string ShmGroup::name_rank(int rank) const {
  return concat("rank ", rank, " (pid ", layout_.rank(rank).process.pid, ")");
}

void ShmGroup::fail(std::string_view reason) noexcept {
  SegmentHeader& header = layout_.header();
  auto none = AbortState::kNone;
  if (!header.abort_state.compare_exchange_strong(none, AbortState::kWriting)) return;
  header.abort_rank = rank_;
  const size_t length = std::min(reason.size(), sizeof(header.abort_reason) - 1);
  std::memcpy(header.abort_reason, reason.data(), length);
  header.abort_reason[length] = '\0';
  header.abort_state.store(AbortState::kSet, std::memory_order_seq_cst);
  for (int a = 0; a < size_; ++a) {
    futex_wake_all(layout_.rank(a).step.value);
    for (int b = 0; b < size_; ++b) {
      futex_wake_all(layout_.sent(a, b).value);
      futex_wake_all(layout_.taken(a, b).value);
    }
  }
}

void ShmGroup::throw_if_failed() const {
  const SegmentHeader& header = layout_.header();
  if (header.abort_state.load(std::memory_order_acquire) == AbortState::kNone) return;
  // The record is written in a microsecond; a writer that dies within it must not hold us up.
  for (int i = 0; i < 100 && header.abort_state.load(std::memory_order_acquire) != AbortState::kSet;
       ++i)
    std::this_thread::sleep_for(100us);
  if (header.abort_state.load(std::memory_order_acquire) != AbortState::kSet)
    throw PeerFailure("a rank died while it ended the group; make a new communicator");
  if (header.abort_rank == rank_)
    throw Unavailable(concat("this communicator has ended: ", header.abort_reason));
  throw PeerFailure(
      concat(name_rank(header.abort_rank), " ended the group: ", header.abort_reason));
}

}  // namespace deepseek_train::collectives
