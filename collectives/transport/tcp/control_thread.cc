// The control plane's thread, and what it reads and writes.
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "collectives/transport/tcp/control_plane.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;

constexpr size_t kMaxMessage = 64 << 10;
// Of a peer that does not read any more; a heartbeat that does not fit is not worth keeping.
constexpr size_t kMaxBacklog = 32 << 10;
constexpr auto kGoodbyePatience = 200ms;
// A machine that starves a thread for longer might as well be frozen.
constexpr auto kMaxStarvation = 10s;

// The program's signals are its own threads' affair.
void block_signals() {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace

void ControlPlane::run() {
  block_signals();
  std::unique_lock lock(mutex_);
  own_.thread = ::syscall(SYS_gettid);
  while (!is_stopping_) {
    const auto wake_time = next_beat_;
    lock.unlock();
    const std::vector<int> ready = sleep_until(wake_time);
    lock.lock();
    for (const int peer : ready) read(peer);
    if (const auto now = Clock::now(); now >= next_beat_) {
      // Reading comes before judging: what lies in the socket was said in time.
      for (size_t peer = 0; peer < peers_.size(); ++peer) read(static_cast<int>(peer));
      beat(now);
    }
    for (size_t peer = 0; peer < peers_.size(); ++peer) flush(static_cast<int>(peer));
    if (has_failed()) tell_listener(lock);
  }
  say_goodbye(lock);
}

// Without the lock: the listener may call back.
void ControlPlane::tell_listener(std::unique_lock<std::mutex>& lock) {
  if (!failure_listener_) return;
  const auto listener = std::exchange(failure_listener_, nullptr);
  const std::string reason =
      cause_ == Cause::kFound ? failure_ : concat(name_locked(failed_rank_), ": ", failure_);
  lock.unlock();
  listener(reason);
  lock.lock();
}

// Until then, or until something has come, from the peers that it returns, or is to be sent. The
// streams live as long as this object, so their descriptors hold without the lock.
std::vector<int> ControlPlane::sleep_until(Clock::time_point time) {
  std::vector<pollfd> poll_fds(peers_.size(), {.fd = -1, .events = 0, .revents = 0});
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < peers_.size(); ++i) {
      const Peer& peer = peers_[i];
      if (!peer.is_open) continue;
      const auto events = static_cast<short>(POLLIN | (peer.out.empty() ? 0 : POLLOUT));
      poll_fds[i] = {peer.stream->socket().get(), events, 0};
    }
  }
  poll_fds.push_back({wake_event_.get(), POLLIN, 0});
  ::poll(poll_fds.data(), poll_fds.size(), poll_timeout(time));
  std::vector<int> ready;
  for (size_t i = 0; i < peers_.size(); ++i) {
    if (poll_fds[i].revents & ~POLLOUT) ready.push_back(static_cast<int>(i));
  }
  uint64_t count;
  [[maybe_unused]] const ssize_t drained = ::read(wake_event_.get(), &count, sizeof(count));
  return ready;
}

void ControlPlane::beat(Clock::time_point now) {
  lateness_.note(now - next_beat_);
  next_beat_ = now + kBeatInterval;
  own_.milliseconds_since = static_cast<uint64_t>((now - own_since_) / 1ms);
  own_.milliseconds_late = static_cast<uint32_t>(lateness_.recent() / 1ms);
  for (size_t i = 0; i < peers_.size(); ++i) {
    const int peer = static_cast<int>(i);
    if (!peers_[i].is_open) continue;
    if (peers_[i].out.size() < kMaxBacklog)
      queue(peer, Kind::kHeartbeat, std::as_bytes(std::span(&own_, 1)));
    check_silence(peer, now, lateness_.is_on_time());
  }
}

// On the thread of the calls. One system call where nothing has come.
void ControlPlane::catch_up() {
  std::lock_guard lock(mutex_);
  poll_fds_.clear();
  for (const Peer& peer : peers_) {
    if (peer.is_open) poll_fds_.push_back({peer.stream->socket().get(), POLLIN, 0});
  }
  if (::poll(poll_fds_.data(), poll_fds_.size(), 0) <= 0) return;
  for (size_t peer = 0; peer < peers_.size(); ++peer) read(static_cast<int>(peer));
}

void ControlPlane::check_silence(int peer, Clock::time_point now, bool is_on_time) {
  Peer& other = peers_[peer];
  if (other.is_lost || other.has_left) return;
  const Clock::duration reported = std::chrono::milliseconds(other.heartbeat.milliseconds_late);
  if (!other.silence.is_lost(now, is_on_time, std::max(lateness_.recent(), reported))) return;
  const auto silence = other.silence.silence(now);
  const bool is_on_this_host = other.process.process_key == peers_[rank_].process.process_key;
  if (is_on_this_host && silence < kMaxStarvation &&
      is_starved(other.process.pid, other.heartbeat.thread))
    return;
  record_failure(Cause::kFound, peer,
                 concat(name_locked(peer), " is frozen or cannot be reached: no heartbeat for ",
                        silence / 1ms, " ms; this rank was ", own_.is_in_call ? "in " : "after ",
                        describe(own_.call), report_locked()));
  other.is_lost = true;
  changed_.notify_all();
}

void ControlPlane::read(int peer) {
  Peer& from = peers_[peer];
  if (!from.is_open) return;
  try {
    std::byte buffer[4096];
    for (size_t received; from.is_open && (received = from.stream->try_recv(buffer)) > 0;) {
      from.in.insert(from.in.end(), buffer, buffer + received);
      Header header;
      size_t begin = 0;
      while (from.in.size() - begin >= sizeof(header)) {
        std::memcpy(&header, from.in.data() + begin, sizeof(header));
        DST_CHECK_AS(DataCorruption, header.bytes <= kMaxMessage, "a control message of ",
                     header.bytes, " bytes");
        if (from.in.size() - begin - sizeof(header) < header.bytes) break;
        handle(peer, header, std::span(from.in).subspan(begin + sizeof(header), header.bytes));
        begin += sizeof(header) + header.bytes;
      }
      from.in.erase(from.in.begin(), from.in.begin() + static_cast<ptrdiff_t>(begin));
    }
  } catch (const Error& error) {
    close(peer);
    if (!from.has_left && !is_stopping_)
      record_failure(
          Cause::kFound, peer,
          concat(name_locked(peer), " has died (", error.what(), "); this rank was ",
                 own_.is_in_call ? "in " : "after ", describe(own_.call), report_locked()));
  }
}

void ControlPlane::handle(int peer, const Header& header, std::span<const std::byte> body) {
  Peer& from = peers_[peer];
  from.silence.heard(Clock::now());
  switch (header.kind) {
    case Kind::kHeartbeat:
      if (body.size() != sizeof(from.heartbeat)) return;
      std::memcpy(&from.heartbeat, body.data(), sizeof(from.heartbeat));
      from.heard = Clock::now();
      return;
    case Kind::kFailure:
      record_failure(Cause::kTold, peer,
                     std::string(reinterpret_cast<const char*>(body.data()), body.size()));
      return;
    case Kind::kGoodbye: from.has_left = true; return;
    case Kind::kText:
      from.text.assign(body.begin(), body.end());
      changed_.notify_all();
      return;
  }
}

void ControlPlane::close(int peer) {
  peers_[peer].is_open = false;
  peers_[peer].out.clear();
  changed_.notify_all();
}

void ControlPlane::queue(int peer, Kind kind, std::span<const std::byte> body) {
  Peer& to = peers_[peer];
  if (!to.is_open) return;
  const Header header{kind, static_cast<uint32_t>(body.size())};
  const auto head = std::as_bytes(std::span(&header, 1));
  to.out.insert(to.out.end(), head.begin(), head.end());
  to.out.insert(to.out.end(), body.begin(), body.end());
}

void ControlPlane::queue_for_all(Kind kind, std::span<const std::byte> body) {
  for (size_t peer = 0; peer < peers_.size(); ++peer) queue(static_cast<int>(peer), kind, body);
}

void ControlPlane::flush(int peer) {
  Peer& to = peers_[peer];
  try {
    while (to.is_open && !to.out.empty()) {
      const std::span<const std::byte> bytes = to.out;
      const size_t sent = to.stream->try_send({&bytes, 1});
      if (sent == 0) return;
      to.out.erase(to.out.begin(), to.out.begin() + static_cast<ptrdiff_t>(sent));
    }
  } catch (const Error&) {
    // That the peer is gone, and what it said before, is found by reading.
    to.out.clear();
  }
}

bool ControlPlane::is_flushed() const {
  return std::all_of(peers_.begin(), peers_.end(),
                     [](const Peer& peer) { return !peer.is_open || peer.out.empty(); });
}

void ControlPlane::say_goodbye(std::unique_lock<std::mutex>& lock) {
  queue_for_all(Kind::kGoodbye, {});
  const auto deadline = Clock::now() + kGoodbyePatience;
  for (;;) {
    for (size_t peer = 0; peer < peers_.size(); ++peer) flush(static_cast<int>(peer));
    if (is_flushed() || Clock::now() >= deadline) return;
    lock.unlock();
    sleep_until(std::min(deadline, Clock::now() + 10ms));
    lock.lock();
  }
}

}  // namespace deepseek_train::collectives
