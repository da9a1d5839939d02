#include "collectives/transport/tcp/mesh.h"

#include <algorithm>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// How long the control plane may take to learn why a data stream has ended.
constexpr auto kLastWords = 100ms;
// So many bytes are worth waking up for.
constexpr size_t kWakeBytes = 64 << 10;

}  // namespace

size_t TcpMesh::try_send(int peer, ByteSpans parts) try {
  return data_[peer]->try_send(parts);
} catch (const Error&) {
  throw_gone(peer);
}

size_t TcpMesh::try_recv(int peer, std::span<std::byte> bytes) try {
  return data_[peer]->try_recv(bytes);
} catch (const Error&) {
  throw_gone(peer);
}

void TcpMesh::poll(std::vector<Interest>& interests, std::chrono::milliseconds limit) {
  poll_fds_.assign(2 * size() + 1, {.fd = -1, .events = 0, .revents = 0});  // -1: not looked at
  for (int peer = 0; peer < size(); ++peer) {
    const Interest& want = interests[peer];
    if (want.awaits > 0) {
      data_[peer]->expect(std::min(want.awaits, kWakeBytes));
      poll_fds_[2 * peer] = {data_[peer]->socket().get(), POLLIN, 0};
    }
    if (!want.sends) continue;
    const int socket = data_[peer]->sending_socket().get();
    pollfd& out = poll_fds_[2 * peer + (poll_fds_[2 * peer].fd == socket ? 0 : 1)];
    out = {socket, static_cast<short>(out.events | POLLOUT), 0};
  }
  poll_fds_.back() = {control_->failure_fd(), POLLIN, 0};
  ::poll(poll_fds_.data(), poll_fds_.size(), static_cast<int>(limit.count()));
  for (int peer = 0; peer < size(); ++peer) {
    constexpr int kEnd = POLLERR | POLLHUP | POLLNVAL;  // found by trying
    const int found = poll_fds_[2 * peer].revents | poll_fds_[2 * peer + 1].revents;
    Interest& want = interests[peer];
    want.may_send = !want.sends || (found & (POLLOUT | kEnd));
    want.may_receive = want.awaits == 0 || (found & (POLLIN | kEnd));
  }
  control_->throw_if_failed();
}

std::string TcpMesh::describe_links() const {
  std::string text = concat(options_.streams->name(), ", ", size(), " ranks at");
  for (int peer = 0; peer < size(); ++peer)
    text += concat(peer > 0 ? ", " : " ", peer == rank() ? "own" : hosts_[peer]);
  return concat(text, ", from ", host_.name);
}

// A peer that failed says why over its control stream, and another may already have named the
// culprit.
void TcpMesh::throw_gone(int peer) {
  std::vector<Interest> nothing(size());
  for (const auto stop = Clock::now() + kLastWords; Clock::now() < stop;) poll(nothing, 5ms);
  throw Unavailable(concat(control_->name_rank(peer),
                           control_->has_left(peer) ? " has left" : " has died or left",
                           ": its connection is closed", control_->report()));
}

}  // namespace deepseek_train::collectives
