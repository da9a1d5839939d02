#include "collectives/transport/tcp/control_plane.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;

constexpr size_t kMaxReason = 4 << 10;
constexpr size_t kMaxReport = 2 << 10;
// How fresh a heartbeat must be to count.
constexpr auto kFresh = 5 * kBeatInterval;

UniqueFd make_event() {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  DST_CHECK_AS(Unavailable, event, "eventfd: ", std::strerror(errno));
  return event;
}

void signal(const UniqueFd& event) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(event.get(), &one, sizeof(one));
}

std::string seconds_text(std::chrono::steady_clock::duration time) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f s", std::chrono::duration<double>(time).count());
  return text;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

ControlPlane::ControlPlane(int rank, std::vector<PeerProcess> processes,
                           std::vector<std::unique_ptr<Stream>> streams)
    : rank_(rank), failure_event_(make_event()), wake_event_(make_event()), peers_(streams.size()) {
  for (size_t peer = 0; peer < peers_.size(); ++peer) {
    peers_[peer].process = std::move(processes[peer]);
    peers_[peer].stream = std::move(streams[peer]);
    peers_[peer].is_open = peers_[peer].stream != nullptr;
    peers_[peer].heard = Clock::now();
  }
  own_since_ = next_beat_ = Clock::now();
  if (peers_.size() > 1) thread_ = std::thread([this] { run(); });
}

ControlPlane::~ControlPlane() {
  {
    std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  wake();
  if (thread_.joinable()) thread_.join();
}

void ControlPlane::enter(const CallSignature& call) {
  std::lock_guard lock(mutex_);
  own_.call = call;
  own_.is_in_call = 1;
  own_.is_waiting = 0;
  own_since_ = Clock::now();
}

void ControlPlane::leave() {
  std::lock_guard lock(mutex_);
  own_.is_in_call = own_.is_waiting = 0;
  own_since_ = Clock::now();
}

// A rank that begins to wait says so at once: if this becomes an error, its text is fresh.
void ControlPlane::set_waiting(bool is_waiting) {
  {
    std::lock_guard lock(mutex_);
    own_.is_waiting = is_waiting;
    if (is_waiting) next_beat_ = std::min(next_beat_, Clock::now());
  }
  if (is_waiting) wake();
}

void ControlPlane::note_call(int peer, const CallSignature& call) {
  std::lock_guard lock(mutex_);
  Peer& from = peers_[peer];
  from.heartbeat.call = call;
  from.heartbeat.is_in_call = 1;
  from.heartbeat.is_waiting = 0;
  from.heartbeat.milliseconds_since = 0;
  from.heard = Clock::now();
}

void ControlPlane::throw_if_failed() const {
  if (!has_failed()) return;
  std::lock_guard lock(mutex_);
  if (cause_ == Cause::kOwn) throw Unavailable(concat("this communicator has ended: ", failure_));
  if (cause_ == Cause::kFound) throw Unavailable(failure_);
  throw PeerFailure(concat(name_locked(failed_rank_), " ended the group: ", failure_));
}

void ControlPlane::fail(std::string_view reason) noexcept {
  std::lock_guard lock(mutex_);
  record_failure(Cause::kOwn, rank_, std::string(reason));
}

void ControlPlane::record_failure(Cause cause, int rank, std::string text) {
  if (has_failed()) return;
  if (text.size() > kMaxReason) text = text.substr(0, kMaxReason) + "...";
  cause_ = cause;
  failed_rank_ = rank;
  failure_ = std::move(text);
  has_failed_.store(true, std::memory_order_release);
  if (cause != Cause::kTold) queue_for_all(Kind::kFailure, bytes_of(failure_));
  signal(failure_event_);
  changed_.notify_all();
  wake();
}

std::string ControlPlane::name_rank(int rank) const {
  std::lock_guard lock(mutex_);
  return name_locked(rank);
}

std::string ControlPlane::name_locked(int rank) const {
  const PeerProcess& process = peers_[rank].process;
  return concat("rank ", rank, " (pid ", process.pid, ", host ", process.host, ")");
}

std::string ControlPlane::report() const {
  std::lock_guard lock(mutex_);
  return report_locked();
}

std::string ControlPlane::report_locked() const {
  std::string text;
  for (size_t peer = 0; peer < peers_.size(); ++peer) {
    const Peer& other = peers_[peer];
    if (static_cast<int>(peer) == rank_) continue;
    const Heartbeat& last = other.heartbeat;
    const auto since =
        std::chrono::milliseconds(last.milliseconds_since) + (Clock::now() - other.heard);
    text += concat(text.empty() ? "; meanwhile " : "; ", name_locked(static_cast<int>(peer)), ": ");
    if (other.has_left)
      text += "has left";
    else if (last.is_in_call)
      text += concat("in ", describe(last.call), " for ", seconds_text(since));
    else if (last.call.sequence == 0)
      text += "has made no call yet";
    else
      text += concat("between calls for ", seconds_text(since), ", last ", describe(last.call));
    if (text.size() > kMaxReport) return text.substr(0, kMaxReport) + "...";
  }
  return text;
}

std::string ControlPlane::ranks_not_waiting_in(const CallSignature& call) const {
  std::lock_guard lock(mutex_);
  std::string text;
  for (size_t peer = 0; peer < peers_.size(); ++peer) {
    const Peer& other = peers_[peer];
    const bool is_waiting = other.heartbeat.is_waiting && other.heartbeat.is_in_call &&
                            is_same_call(other.heartbeat.call, call) &&
                            Clock::now() - other.heard < kFresh;
    if (static_cast<int>(peer) != rank_ && !is_waiting)
      text += (text.empty() ? "" : ", ") + name_locked(static_cast<int>(peer));
  }
  return text;
}

bool ControlPlane::has_left(int peer) const {
  std::lock_guard lock(mutex_);
  return peers_[peer].has_left;
}

void ControlPlane::publish(std::vector<std::byte> text) {
  {
    std::lock_guard lock(mutex_);
    text_ = std::move(text);
    queue_for_all(Kind::kText, text_);
  }
  wake();
}

std::vector<ControlPlane::View> ControlPlane::views() const {
  std::lock_guard lock(mutex_);
  std::vector<View> views(peers_.size());
  for (size_t peer = 0; peer < peers_.size(); ++peer)
    views[peer] = {.is_gone = !peers_[peer].is_open || peers_[peer].has_left,
                   .is_silent = peers_[peer].is_lost,
                   .text = peers_[peer].text};
  views[rank_] = {.text = text_};
  return views;
}

void ControlPlane::await_change(Deadline deadline) {
  std::unique_lock lock(mutex_);
  // Bounded also because a change may have come before this was called.
  changed_.wait_until(lock, std::min<Deadline>(deadline, Clock::now() + 5ms));
}

void ControlPlane::set_failure_listener(std::function<void(const std::string&)> listener) {
  {
    std::lock_guard lock(mutex_);
    failure_listener_ = std::move(listener);
  }
  wake();
}

void ControlPlane::wake() { signal(wake_event_); }

}  // namespace deepseek_train::collectives
