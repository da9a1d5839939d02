#include "collectives/transport/tcp/stream.h"

#include <poll.h>

#include <algorithm>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kInterruptInterval = std::chrono::milliseconds(10);

// Sleeps until the socket is ready; false once the deadline has passed.
bool await(const Stream& stream, short events, Deadline deadline, const Interrupt& interrupt) {
  while (Clock::now() < deadline) {
    if (interrupt) interrupt();
    const Deadline next =
        interrupt ? std::min(deadline, Clock::now() + kInterruptInterval) : deadline;
    pollfd poll_fd{stream.socket().get(), events, 0};
    if (::poll(&poll_fd, 1, poll_timeout(next)) > 0) return true;
  }
  return false;
}

}  // namespace

bool write_all(Stream& stream, std::span<const std::byte> bytes, Deadline deadline,
               const Interrupt& interrupt) try {
  while (!bytes.empty()) {
    const size_t sent = stream.try_send({&bytes, 1});
    bytes = bytes.subspan(sent);
    if (sent == 0 && !await(stream, POLLOUT, deadline, interrupt)) return false;
  }
  return true;
} catch (const PeerFailure&) {
  throw;
} catch (const Unavailable&) {
  return false;
}

bool read_all(Stream& stream, std::span<std::byte> bytes, Deadline deadline,
              const Interrupt& interrupt) try {
  while (!bytes.empty()) {
    const size_t received = stream.try_recv(bytes);
    bytes = bytes.subspan(received);
    if (received == 0 && !await(stream, POLLIN, deadline, interrupt)) return false;
  }
  return true;
} catch (const PeerFailure&) {
  throw;
} catch (const Unavailable&) {
  return false;
}

std::unique_ptr<Stream> connect_stream(StreamFactory& streams, const Endpoint& endpoint, int rank,
                                       Deadline deadline, const Interrupt& interrupt) {
  auto stream = streams.connect(connect_to(endpoint, deadline, interrupt), rank);
  while (!stream->try_handshake()) {
    DST_CHECK_AS(Timeout, await(*stream, stream->wanted_events(), deadline, interrupt), "rank ",
                 rank, " at ", endpoint.host, ":", endpoint.port,
                 " accepted the connection but did not shake hands in time");
  }
  return stream;
}

}  // namespace deepseek_train::collectives
