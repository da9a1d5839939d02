// Connections between every two ranks, and what goes over them besides data: heartbeats and the end
// of the group.
#pragma once

#include <poll.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "collectives/transport/call_signature.h"
#include "collectives/transport/tcp/socket.h"

namespace deepseek_train::collectives {

struct MeshOptions {
  int rank = 0;
  std::vector<Endpoint> endpoints;  // by rank; one's own is not used
  uint64_t key = 0;                 // the same for all members and nobody else, see job_key()
  std::chrono::milliseconds timeout{0};
};

// Two connections per pair: `data` carries the bytes of calls with nothing between them, `control`
// small messages, so that a rank can say that it waits, or why it ends, while its data stream is
// blocked. One thread, save fail().
class TcpMesh {
 public:
  // Connects to lower ranks, accepts from higher ones. Throws Timeout naming who is missing.
  TcpMesh(MeshOptions options, const UniqueFd& listener);

  int rank() const { return options_.rank; }
  int size() const { return static_cast<int>(options_.endpoints.size()); }
  std::chrono::milliseconds timeout() const { return options_.timeout; }
  const Endpoint& endpoint(int peer) const { return options_.endpoints[peer]; }

  // As many bytes as go now; 0 if none. Throws Unavailable, or PeerFailure if the peer said why,
  // when the peer is gone.
  size_t try_send(int peer, std::span<const std::byte> bytes);
  size_t try_recv(int peer, std::span<std::byte> bytes);

  // Sleeps until a data stream is ready as asked (POLLIN, POLLOUT by rank; 0: not interested), a
  // control message has come or `limit` has passed. Handles control messages; throws PeerFailure if
  // the group has ended.
  void poll(const std::vector<short>& interests, std::chrono::milliseconds limit);
  // Reads what control messages there are without waiting.
  void throw_if_failed();

  // Tells the others that this rank waits in `call`.
  void send_heartbeat(const CallSignature& call);
  // "rank 2 (pid 4711, host a), ..." of those who have not said within `age` that they wait in this
  // call; empty if none.
  std::string silent_ranks(const CallSignature& call, std::chrono::milliseconds age) const;
  std::string name_rank(int rank) const;

  // Ends the group for everybody; the first reason stays. Any thread.
  void fail(std::string_view reason) noexcept;

 private:
  using Clock = std::chrono::steady_clock;
  enum class ControlKind : uint32_t { kHeartbeat = 1, kFailure = 2 };
  struct ControlMessage {
    ControlKind kind;
    uint32_t padding;
    CallSignature call;
    char reason[1960];
  };
  static_assert(sizeof(ControlMessage) == 2048);

  struct Peer {
    UniqueFd data;
    UniqueFd control;
    int64_t pid = 0;
    std::string host;
    std::vector<std::byte> control_in;   // the begin of a message
    std::vector<std::byte> control_out;  // not yet taken by the socket; guarded by control_mutex_
    CallSignature last_heartbeat;
    Clock::time_point heartbeat_time;
    bool control_is_open = true;
  };
  struct Hello;

  void connect_lower(Deadline deadline);
  void accept_higher(const UniqueFd& listener, Deadline deadline);
  bool greet(int peer, uint32_t channel, UniqueFd socket, Deadline deadline);
  bool admit(UniqueFd socket, Deadline deadline);
  Hello hello(uint32_t channel) const;
  [[noreturn]] void throw_missing() const;
  void store(int peer, uint32_t channel, const Hello& hello, UniqueFd socket);

  void read_control(int peer);
  void handle(int peer, const ControlMessage& message);
  void write_control(int peer, const ControlMessage& message) noexcept;
  [[noreturn]] void throw_gone(int peer);
  void throw_recorded_failure() const;

  const MeshOptions options_;
  std::vector<Peer> peers_;
  std::vector<pollfd> poll_fds_;  // scratch of poll()

  std::atomic<bool> has_failed_ = false;
  mutable std::mutex control_mutex_;
  int failed_rank_ = -1;  // guarded, as the reason
  std::string failure_;
};

}  // namespace deepseek_train::collectives
