// A connection as a stream of bytes, in clear text or encrypted.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "collectives/transport/tcp/socket.h"

namespace deepseek_train::collectives {

using ByteSpans = std::span<const std::span<const std::byte>>;

// Never blocks. One thread at a time. All but the constructor throw Unavailable when the other end
// has closed, PermissionDenied when it is not who it should be or refuses us, DataCorruption when
// bytes were altered on the way (under TLS).
class Stream {
 public:
  static constexpr int kUnproven = -1;

  virtual ~Stream() = default;

  // Goes on with the handshake; true once bytes may flow.
  virtual bool try_handshake() = 0;
  // How many bytes, counted over all parts, have gone now. After a 0 the next call must begin with
  // the same bytes, which may already be on their way.
  virtual size_t try_send(ByteSpans parts) = 0;
  // 0 if nothing has come. Call it until then before waiting for the socket: bytes that have been
  // read from there may wait inside.
  virtual size_t try_recv(std::span<std::byte> bytes) = 0;
  // A hint: this many bytes are awaited, so until they are there, or the connection ends, poll()
  // need not report the socket as readable.
  virtual void expect(size_t /*bytes*/) {}
  // What poll() should wait for during the handshake.
  virtual short wanted_events() const = 0;
  // The launch's rank that the other end has proven to be, or kUnproven in clear text.
  virtual int proven_rank() const = 0;
  virtual const UniqueFd& socket() const = 0;
  // Where poll() reports POLLOUT, if that is another.
  virtual const UniqueFd& sending_socket() const { return socket(); }
};

// How connections are secured. Thread-safe.
class StreamFactory {
 public:
  virtual ~StreamFactory() = default;
  virtual std::string_view name() const = 0;  // "tcp", "tls"
  // The connecting end; the other must prove to be `rank` of the launch.
  virtual std::unique_ptr<Stream> connect(UniqueFd socket, int rank) = 0;
  // The accepting end; the other must prove to be some rank of the launch.
  virtual std::unique_ptr<Stream> accept(UniqueFd socket) = 0;
  // When connections made now should be made anew, because their certificate nears its end.
  virtual std::chrono::system_clock::time_point renewal_time() = 0;
};

std::shared_ptr<StreamFactory> make_plain_streams();

// Called every few milliseconds by what waits; throws to give up.
using Interrupt = std::function<void()>;

// All bytes, or false once the deadline has passed or the other end has closed. For set-up; the
// collectives have their own loop.
bool write_all(Stream& stream, std::span<const std::byte> bytes, Deadline deadline,
               const Interrupt& interrupt = {});
bool read_all(Stream& stream, std::span<std::byte> bytes, Deadline deadline,
              const Interrupt& interrupt = {});
// Connects and shakes hands; throws Timeout, or the handshake's PermissionDenied.
std::unique_ptr<Stream> connect_stream(StreamFactory& streams, const Endpoint& endpoint, int rank,
                                       Deadline deadline, const Interrupt& interrupt = {});

}  // namespace deepseek_train::collectives
