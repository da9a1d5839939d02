// Connections between every two ranks.
#pragma once

#include <poll.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "collectives/rendezvous/host_identity.h"
#include "collectives/transport/tcp/control_plane.h"
#include "collectives/transport/tcp/lobby.h"
#include "collectives/transport/tcp/stream.h"

namespace deepseek_train::collectives {

// What a call wants of the stream to one peer, and whether an attempt is worth a system call.
struct Interest {
  bool sends = false;
  size_t awaits = 0;     // bytes that come next, at least, whatever this rank does; 0: none
  bool may_send = true;  // false from an attempt that moved nothing until poll() says otherwise
  bool may_receive = true;
};

struct MeshOptions {
  int rank = 0;
  std::vector<Endpoint> endpoints;  // by rank; one's own is not used
  std::vector<int> launch_ranks;    // by rank: its number in the launch, which TLS proves
  uint64_t key = 0;                 // the same for all members and nobody else, see job_key()
  int num_streams = 1;              // connections for the data of a pair, the same on all members
  std::chrono::milliseconds timeout{0};
  std::shared_ptr<StreamFactory> streams;
};

// Connections of every pair: one, or several in stripes, carry the bytes of calls with nothing
// between them, another belongs to the control plane, so that a rank can say that it waits, or why
// it ends, while its data stream is blocked. One thread, but for control().fail().
class TcpMesh {
 public:
  // Connects to lower ranks, accepts from higher ones. Throws Timeout naming who is missing,
  // PermissionDenied if a rank is not who it should be, and what `interrupt` throws.
  TcpMesh(MeshOptions options, const UniqueFd& listener, const Interrupt& interrupt = {});

  int rank() const { return options_.rank; }
  int size() const { return static_cast<int>(options_.endpoints.size()); }
  std::chrono::milliseconds timeout() const { return options_.timeout; }
  const MeshOptions& options() const { return options_; }
  ControlPlane& control() { return *control_; }
  const std::string& host(int peer) const { return hosts_[peer]; }
  // Which links these are: "tcp, 4 ranks at 10.0.0.7, 10.0.0.8, ..., from host a".
  std::string describe_links() const;
  // True once the connections should be made anew, see StreamFactory::renewal_time().
  bool is_due_for_renewal() const { return std::chrono::system_clock::now() >= renewal_time_; }

  // As Stream's; throw Unavailable, or PeerFailure if the peer said why, when it is gone.
  size_t try_send(int peer, ByteSpans parts);
  size_t try_recv(int peer, std::span<std::byte> bytes);

  // Sleeps until a data stream is ready as asked, or `limit` has passed, and notes which are. A
  // stream wakes it for what is awaited, but 64 KiB at most. Throws if the group has ended.
  void poll(std::vector<Interest>& interests, std::chrono::milliseconds limit);

 private:
  enum class Channel : uint32_t { kData, kControl };
  struct Hello;
  // What becomes of the handshakes.
  struct Connections {
    std::vector<std::vector<std::unique_ptr<Stream>>> data;  // by rank, then by number
    std::vector<std::unique_ptr<Stream>> control;
    std::vector<PeerProcess> processes;
  };

  void connect_lower(Connections& made, Deadline deadline, const Interrupt& interrupt);
  void accept_higher(Connections& made, const UniqueFd& listener, Deadline deadline,
                     const Interrupt& interrupt);
  void call(Connections& made, int peer, Channel channel, int stream, Deadline deadline,
            const Interrupt& interrupt);
  // Empty, or why the visitor is none of ours.
  std::string objection_to(const Visitor& visitor, const Hello& hello, Connections& made) const;
  Hello hello(Channel channel, int stream) const;
  static std::unique_ptr<Stream>& place_of(Connections& made, const Hello& hello);
  static bool has_all(const Connections& made, int peer);
  [[noreturn]] void throw_missing(const Connections& made, const std::string& refusals) const;
  static void store(Connections& made, const Hello& hello, std::unique_ptr<Stream> stream);
  [[noreturn]] void throw_gone(int peer);

  const MeshOptions options_;
  const HostIdentity host_;
  const std::chrono::system_clock::time_point renewal_time_;
  std::vector<std::string> hosts_;
  std::vector<std::unique_ptr<Stream>> data_;
  std::vector<pollfd> poll_fds_;  // scratch of poll()
  std::unique_ptr<ControlPlane> control_;
};

}  // namespace deepseek_train::collectives
