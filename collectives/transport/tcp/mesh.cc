#include "collectives/transport/tcp/mesh.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;

// A heartbeat that does not fit any more is not worth keeping: the peer does not read.
constexpr size_t kMaxControlBacklog = 32 << 10;
// How long a failing peer's own words may come after the end of its data stream.
constexpr auto kLastWords = 100ms;

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

}  // namespace

size_t TcpMesh::try_send(int peer, std::span<const std::byte> bytes) {
  const ssize_t sent = ::send(peers_[peer].data.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent >= 0) return static_cast<size_t>(sent);
  if (!would_block()) throw_gone(peer);
  return 0;
}

size_t TcpMesh::try_recv(int peer, std::span<std::byte> bytes) {
  if (bytes.empty()) return 0;
  const ssize_t received = ::recv(peers_[peer].data.get(), bytes.data(), bytes.size(), 0);
  if (received > 0) return static_cast<size_t>(received);
  if (received == 0 || !would_block()) throw_gone(peer);
  return 0;
}

void TcpMesh::poll(const std::vector<short>& interests, std::chrono::milliseconds limit) {
  poll_fds_.clear();
  for (int peer = 0; peer < size(); ++peer) {
    // poll() skips negative descriptors.
    poll_fds_.push_back({interests[peer] ? peers_[peer].data.get() : -1, interests[peer], 0});
    const bool is_open = peer != rank() && peers_[peer].control_is_open;
    poll_fds_.push_back({is_open ? peers_[peer].control.get() : -1, POLLIN, 0});
  }
  ::poll(poll_fds_.data(), poll_fds_.size(), static_cast<int>(limit.count()));
  for (int peer = 0; peer < size(); ++peer) {
    if (poll_fds_[2 * peer + 1].revents) read_control(peer);
  }
  if (has_failed_.load(std::memory_order_acquire)) throw_recorded_failure();
}

void TcpMesh::throw_if_failed() { poll(std::vector<short>(size(), 0), 0ms); }

void TcpMesh::read_control(int peer) {
  Peer& from = peers_[peer];
  ControlMessage message;
  for (;;) {
    std::byte buffer[sizeof(message)];
    const ssize_t received =
        ::recv(from.control.get(), buffer, sizeof(buffer) - from.control_in.size(), 0);
    if (received < 0 && would_block()) return;
    if (received <= 0) {
      // The peer has left; whether that matters, its data stream will tell.
      from.control_is_open = false;
      return;
    }
    from.control_in.insert(from.control_in.end(), buffer, buffer + received);
    if (from.control_in.size() < sizeof(message)) continue;
    std::memcpy(&message, from.control_in.data(), sizeof(message));
    from.control_in.clear();
    handle(peer, message);
  }
}

void TcpMesh::handle(int peer, const ControlMessage& message) {
  if (message.kind == ControlKind::kHeartbeat) {
    peers_[peer].last_heartbeat = message.call;
    peers_[peer].heartbeat_time = Clock::now();
    return;
  }
  std::lock_guard lock(control_mutex_);
  if (has_failed_) return;
  failed_rank_ = peer;
  failure_.assign(message.reason, ::strnlen(message.reason, sizeof(message.reason)));
  has_failed_.store(true, std::memory_order_release);
}

void TcpMesh::write_control(int peer, const ControlMessage& message) noexcept {
  Peer& to = peers_[peer];
  const bool is_heartbeat = message.kind == ControlKind::kHeartbeat;
  if (is_heartbeat && to.control_out.size() > kMaxControlBacklog) return;
  const auto* bytes = reinterpret_cast<const std::byte*>(&message);
  to.control_out.insert(to.control_out.end(), bytes, bytes + sizeof(message));
  const ssize_t sent = ::send(to.control.get(), to.control_out.data(), to.control_out.size(),
                              MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent > 0) to.control_out.erase(to.control_out.begin(), to.control_out.begin() + sent);
}

void TcpMesh::send_heartbeat(const CallSignature& call) {
  ControlMessage message{};
  message.kind = ControlKind::kHeartbeat;
  message.call = call;
  std::lock_guard lock(control_mutex_);
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank()) write_control(peer, message);
  }
}

std::string TcpMesh::silent_ranks(const CallSignature& call, std::chrono::milliseconds age) const {
  std::string text;
  for (int peer = 0; peer < size(); ++peer) {
    const Peer& other = peers_[peer];
    if (peer == rank() ||
        (is_same_call(other.last_heartbeat, call) && Clock::now() - other.heartbeat_time < age))
      continue;
    text += (text.empty() ? "" : ", ") + name_rank(peer);
  }
  return text;
}

std::string TcpMesh::name_rank(int rank) const {
  return concat("rank ", rank, " (pid ", peers_[rank].pid, ", host ", peers_[rank].host, ")");
}

void TcpMesh::throw_gone(int peer) {
  // A peer that failed says why on its control stream, and another may already have named the
  // culprit.
  for (const auto stop = Clock::now() + kLastWords; Clock::now() < stop;)
    poll(std::vector<short>(size(), 0), 10ms);
  throw Unavailable(concat(name_rank(peer), " has died or left: its connection is closed"));
}

void TcpMesh::fail(std::string_view reason) noexcept {
  std::lock_guard lock(control_mutex_);
  if (has_failed_) return;
  failed_rank_ = rank();
  failure_ = reason;
  has_failed_.store(true, std::memory_order_release);
  ControlMessage message{};
  message.kind = ControlKind::kFailure;
  std::memcpy(message.reason, reason.data(), std::min(reason.size(), sizeof(message.reason) - 1));
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank()) write_control(peer, message);
  }
}

void TcpMesh::throw_recorded_failure() const {
  std::lock_guard lock(control_mutex_);
  if (failed_rank_ == rank()) throw Unavailable(concat("this communicator has ended: ", failure_));
  throw PeerFailure(concat(name_rank(failed_rank_), " ended the group: ", failure_));
}

}  // namespace deepseek_train::collectives
