#include "collectives/transport/tcp/mesh.h"

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// How long the control plane may take to learn why a data stream has ended.
constexpr auto kLastWords = 100ms;

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

void TcpMesh::poll(const std::vector<short>& interests, std::chrono::milliseconds limit) {
  poll_fds_.clear();
  poll_fds_.push_back({control_->failure_fd(), POLLIN, 0});
  for (int peer = 0; peer < size(); ++peer) {
    if (interests[peer]) poll_fds_.push_back({data_[peer]->socket().get(), interests[peer], 0});
  }
  ::poll(poll_fds_.data(), poll_fds_.size(), static_cast<int>(limit.count()));
  control_->throw_if_failed();
}

// A peer that failed says why over its control stream, and another may already have named the
// culprit.
void TcpMesh::throw_gone(int peer) {
  const std::vector<short> nothing(size(), 0);
  for (const auto stop = Clock::now() + kLastWords; Clock::now() < stop;) poll(nothing, 5ms);
  throw Unavailable(concat(control_->name_rank(peer),
                           control_->has_left(peer) ? " has left" : " has died or left",
                           ": its connection is closed", control_->report()));
}

}  // namespace deepseek_train::collectives
