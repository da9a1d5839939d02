// Many messages at once, in both directions.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "collectives/transport/tcp/mesh.h"

namespace deepseek_train::collectives {

// A set of sends and receives that run side by side; those with one peer keep their order. Buffers
// must live until run() returns.
class Transfers {
 public:
  explicit Transfers(int size) : peers_(size) {}

  void send(int to, std::span<const std::byte> bytes) {
    if (!bytes.empty()) peers_[to].out.push_back(bytes);
  }
  // `on_arrival`, if given, is called when all bytes are there, and may throw.
  void recv(int from, std::span<std::byte> bytes, std::function<void()> on_arrival = {}) {
    if (!bytes.empty()) peers_[from].in.push_back({bytes, std::move(on_arrival)});
  }

  // Blocks until all are done. `call` is for messages.
  void run(TcpMesh& mesh, const CallSignature& call);

 private:
  struct Incoming {
    std::span<std::byte> bytes;
    std::function<void()> on_arrival;
  };
  struct Peer {
    std::vector<std::span<const std::byte>> out;
    std::vector<Incoming> in;
    size_t next_out = 0;
    size_t next_in = 0;
    bool is_sending() const { return next_out < out.size(); }
    bool is_receiving() const { return next_in < in.size(); }
  };

  static bool push(TcpMesh& mesh, int to, Peer& peer);
  static bool pull(TcpMesh& mesh, int from, Peer& peer);

  std::vector<Peer> peers_;
};

}  // namespace deepseek_train::collectives
