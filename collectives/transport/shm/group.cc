#include "collectives/transport/shm/group.h"

#include <unistd.h>

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
// How long a dead rank can go unnoticed by one that sleeps.
constexpr Clock::duration kDozeTime = 4ms;
// A pause instruction takes longer than a line's way between cores, so the first looks do without.
constexpr int kEagerLooks = 256;

void relax_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

bool has_reached(const Counter& counter, uint32_t wanted) {
  // The difference is signed so that counters may wrap. seq_cst pairs with increment(): see doze().
  return static_cast<int32_t>(counter.value() - wanted) >= 0;
}

int64_t nanoseconds_now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch())
      .count();
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof(name) - 1) == 0 ? name : "?";
}

std::vector<ProcessId> processes_of(const SegmentLayout& layout, int size) {
  std::vector<ProcessId> processes;
  for (int r = 0; r < size; ++r) processes.push_back(layout.rank(r).process);
  return processes;
}

// While it lives, reports say since when this rank sleeps.
class SleepNote {
 public:
  explicit SleepNote(RankBlock& block) : block_(block) {
    block_.asleep_since_ns.store(nanoseconds_now(), std::memory_order_relaxed);
  }
  ~SleepNote() { block_.asleep_since_ns.store(0, std::memory_order_relaxed); }

 private:
  RankBlock& block_;
};

}  // namespace

ShmGroup::ShmGroup(const std::string& job_id, int rank, int size, std::chrono::milliseconds timeout,
                   std::span<const ProcessId> expected)
    : ShmGroup(join_segment(segment_name(job_id), rank, size, timeout, expected), rank, size,
               timeout) {}

ShmGroup::ShmGroup(Mapping segment, int rank, int size, std::chrono::milliseconds timeout)
    : rank_(rank),
      size_(size),
      timeout_(timeout),
      // More ranks than cores: whoever spins keeps the rank it waits for from running.
      may_spin_(static_cast<unsigned>(size) <= std::thread::hardware_concurrency()),
      host_(host_name()),
      mapping_(std::move(segment)),
      layout_(mapping_.data(), size),
      watch_(processes_of(layout_, size)) {}

ShmGroup::~ShmGroup() { close(); }

void ShmGroup::close() {
  mine().presence.store(Presence::kClosed, std::memory_order_release);
  futex_wake_all(mine().step.word);
}

uint32_t ShmGroup::open_call(const CallSignature& call, uint32_t digest) {
  RankBlock& block = mine();
  block.calls[call.sequence % 2].store(call);
  block.sequence.store(call.sequence, std::memory_order_relaxed);
  block.doing.store(Doing::kInCall, std::memory_order_relaxed);
  digest_ = digest;
  return advance();
}

void ShmGroup::open_message(const CallSignature& message) {
  mine().message.store(message);
  mine().doing.store(Doing::kInMessage, std::memory_order_relaxed);
}

void ShmGroup::leave_call() { mine().doing.store(Doing::kBetweenCalls, std::memory_order_relaxed); }

void ShmGroup::increment(Counter& counter, uint32_t digest) {
  // Its owner alone writes it.
  const uint32_t next = static_cast<uint32_t>(counter.word.load(std::memory_order_relaxed)) + 1;
  counter.word.exchange(uint64_t{digest} << 32 | next, std::memory_order_seq_cst);
  if (counter.num_sleepers.load(std::memory_order_seq_cst) != 0) futex_wake_all(counter.word);
}

uint32_t ShmGroup::advance() {
  increment(mine().step, digest_);
  return ++step_;
}

bool ShmGroup::has_taken(int rank, uint32_t step) const {
  return has_reached(layout_.rank(rank).step, step);
}

void ShmGroup::wait_for_all(uint32_t step) {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer != rank_) wait_for(layout_.rank(peer).step, step, peer);
  }
}

void ShmGroup::wait_for(Counter& counter, uint32_t wanted, int peer) {
  if (has_reached(counter, wanted)) return;
  if (may_spin_) {
    for (int i = 0; i < kEagerLooks; ++i) {
      if (has_reached(counter, wanted)) return;
    }
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

void ShmGroup::sleep_until(Counter& counter, uint32_t wanted, int peer) {
  const SleepNote note(mine());
  const auto deadline = Clock::now() + timeout_;
  while (!has_reached(counter, wanted)) {
    throw_if_failed();
    doze(counter, wanted);
    const auto now = Clock::now();
    if (has_reached(counter, wanted)) return;
    watch_.look(now, peer);
    check_peers(counter, wanted, peer);
    if (now >= deadline) throw_timeout(counter, wanted, peer);
  }
}

// No wake-up is lost: the waiter registers, then reads the value; increment() changes the value,
// then reads the number of sleepers; all four are sequentially consistent, so at least one of the
// two sees the other.
void ShmGroup::doze(Counter& counter, uint32_t wanted) const {
  counter.num_sleepers.fetch_add(1, std::memory_order_seq_cst);
  const uint32_t value = counter.value();
  if (static_cast<int32_t>(value - wanted) < 0)
    futex_wait(counter.word, value, std::min(kDozeTime, Clock::duration(timeout_)));
  counter.num_sleepers.fetch_sub(1, std::memory_order_seq_cst);
}

void ShmGroup::check_peers(const Counter& counter, uint32_t wanted, int peer) {
  for (int other = 0; other < size_; ++other) {
    if (other == rank_) continue;
    const RankBlock& block = layout_.rank(other);
    const bool has_closed = block.presence.load(std::memory_order_acquire) == Presence::kClosed;
    if (!has_closed && watch_.is_dead(other)) throw_lost(other, "has died");
    if (other != peer && !is_step(counter, peer)) continue;
    // Read after its end was seen: a rank that left in good order has taken its last step before.
    if (has_reached(is_step(counter, peer) ? block.step : counter, wanted)) continue;
    if (has_closed) throw_lost(other, "has closed its communicator");
    if (watch_.is_stopped(other)) throw_lost(other, "has been stopped (SIGSTOP) for half a second");
  }
}

void ShmGroup::look_around() {
  suspect_ = (suspect_ + 1) % size_;
  watch_.look(Clock::now(), suspect_);
  for (int other = 0; other < size_; ++other) {
    if (watch_.is_dead(other) &&
        layout_.rank(other).presence.load(std::memory_order_acquire) != Presence::kClosed)
      throw_lost(other, "has died");
  }
}

void ShmGroup::throw_left_behind() const {
  throw Unavailable(
      concat("the others have gone on without ", name_rank(rank_), "; make a new communicator"));
}

void ShmGroup::throw_lost(int rank, std::string_view what) const {
  throw_if_failed();
  throw Unavailable(concat(name_rank(rank), " ", what, " while ", name_rank(rank_),
                           " waited for it in ", current_call(), "; ", report()));
}

void ShmGroup::throw_timeout(const Counter& counter, uint32_t wanted, int peer) const {
  throw_if_failed();
  std::string late;
  for (int other = 0; other < size_ && is_step(counter, peer); ++other) {
    if (other != rank_ && !has_reached(layout_.rank(other).step, wanted))
      late += (late.empty() ? "" : ", ") + name_rank(other);
  }
  if (late.empty()) late = name_rank(peer);
  throw Timeout(concat(late, " did not arrive in ", current_call(), " within ", timeout_.count(),
                       " ms; it hangs, is busy elsewhere, or needs a longer timeout; ", report()));
}

void ShmGroup::fail(std::string_view reason) noexcept {
  SegmentHeader& header = layout_.header();
  auto none = AbortState::kNone;
  if (!header.abort_state.compare_exchange_strong(none, AbortState::kWriting)) return;
  header.abort_rank = rank_;
  constexpr size_t kLongest = sizeof(header.abort_reason) - 1;
  const size_t length = std::min(reason.size(), kLongest);
  std::memcpy(header.abort_reason, reason.data(), length);
  if (reason.size() > kLongest) std::memcpy(header.abort_reason + kLongest - 3, "...", 3);
  header.abort_reason[length] = '\0';
  header.abort_state.store(AbortState::kSet, std::memory_order_seq_cst);
  for (int a = 0; a < size_; ++a) {
    futex_wake_all(layout_.rank(a).step.word);
    for (int b = 0; b < size_; ++b) {
      futex_wake_all(layout_.sent(a, b).word);
      futex_wake_all(layout_.taken(a, b).word);
    }
  }
}

void ShmGroup::throw_failure() const {
  const SegmentHeader& header = layout_.header();
  // The record is written in a microsecond; a writer that dies within it must not hold us up.
  for (int i = 0; i < 100 && header.abort_state.load(std::memory_order_acquire) != AbortState::kSet;
       ++i)
    std::this_thread::sleep_for(100us);
  if (header.abort_state.load(std::memory_order_acquire) != AbortState::kSet)
    throw PeerFailure("a rank died while it ended the group; go on with shrink()");
  if (header.abort_rank == rank_)
    throw Unavailable(concat("this communicator has ended: ", header.abort_reason));
  throw PeerFailure(
      concat(name_rank(header.abort_rank), " ended the group: ", header.abort_reason));
}

std::string ShmGroup::name_rank(int rank) const {
  return concat("rank ", rank, " (pid ", layout_.rank(rank).process.pid, ", host ", host_, ")");
}

std::string ShmGroup::current_call() const {
  const RankBlock& block = mine();
  if (block.doing.load(std::memory_order_relaxed) == Doing::kInMessage)
    return describe(block.message.load());
  return describe(call_of(rank_, block.sequence.load(std::memory_order_relaxed)));
}

std::string ShmGroup::describe_rank(int rank) const {
  const RankBlock& block = layout_.rank(rank);
  const auto doing = block.doing.load(std::memory_order_relaxed);
  const auto last = call_of(rank, block.sequence.load(std::memory_order_relaxed));
  std::string text = name_rank(rank) + ": ";
  if (watch_.is_dead(rank)) text += "dead, was ";
  if (doing == Doing::kNothingYet) return text + "before its first call";
  if (doing == Doing::kBetweenCalls) return text + "between calls, last " + describe(last);
  text += "in " + describe(doing == Doing::kInMessage ? block.message.load() : last);
  if (const int64_t since = block.asleep_since_ns.load(std::memory_order_relaxed); since != 0)
    text += concat(" since ", (nanoseconds_now() - since) / 100'000'000 / 10.0, " s");
  return text;
}

std::string ShmGroup::report() const {
  std::string text;
  for (int other = 0; other < size_; ++other) {
    if (other != rank_) text += (text.empty() ? "" : "; ") + describe_rank(other);
  }
  return text;
}

}  // namespace deepseek_train::collectives
