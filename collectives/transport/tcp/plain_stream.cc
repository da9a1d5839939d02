// Clear text: the socket itself.
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>

#include "collectives/transport/tcp/stream.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

constexpr size_t kMaxParts = 8;  // of one system call

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

class PlainStream : public Stream {
 public:
  explicit PlainStream(UniqueFd socket) : socket_(std::move(socket)) {}

  bool try_handshake() override { return true; }

  size_t try_send(ByteSpans parts) override {
    std::array<iovec, kMaxParts> vectors;
    msghdr message{};
    message.msg_iov = vectors.data();
    message.msg_iovlen = std::min(parts.size(), kMaxParts);
    for (size_t i = 0; i < message.msg_iovlen; ++i)
      vectors[i] = {const_cast<std::byte*>(parts[i].data()), parts[i].size()};
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<size_t>(sent);
    DST_CHECK_AS(Unavailable, would_block(), "connection closed: ", std::strerror(errno));
    return 0;
  }

  size_t try_recv(std::span<std::byte> bytes) override {
    if (bytes.empty()) return 0;
    const ssize_t received = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
    if (received > 0) return static_cast<size_t>(received);
    DST_CHECK_AS(Unavailable, received != 0, "connection closed by the other end");
    DST_CHECK_AS(Unavailable, would_block(), "connection closed: ", std::strerror(errno));
    return 0;
  }

  // One wake-up for many segments.
  void expect(size_t bytes) override {
    const int low_mark = static_cast<int>(std::min<size_t>(bytes, std::numeric_limits<int>::max()));
    if (low_mark == low_mark_) return;
    if (::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVLOWAT, &low_mark, sizeof(low_mark)) == 0)
      low_mark_ = low_mark;
  }

  short wanted_events() const override { return POLLIN; }
  int proven_rank() const override { return kUnproven; }
  const UniqueFd& socket() const override { return socket_; }

 private:
  UniqueFd socket_;
  int low_mark_ = 1;
};

class PlainStreams : public StreamFactory {
 public:
  std::string_view name() const override { return "tcp"; }
  std::unique_ptr<Stream> connect(UniqueFd socket, int) override {
    return std::make_unique<PlainStream>(std::move(socket));
  }
  std::unique_ptr<Stream> accept(UniqueFd socket) override {
    return std::make_unique<PlainStream>(std::move(socket));
  }
  std::chrono::system_clock::time_point renewal_time() override {
    return std::chrono::system_clock::time_point::max();
  }
};

}  // namespace

std::shared_ptr<StreamFactory> make_plain_streams() { return std::make_shared<PlainStreams>(); }

}  // namespace deepseek_train::collectives
