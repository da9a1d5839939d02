// Many messages at once, in both directions.
#pragma once

#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "collectives/transport/tcp/mesh.h"

namespace deepseek_train::collectives {

// A set of sends and receives that run side by side; those with one peer keep their order. Buffers
// must live until run() returns.
//
// With a limit, a rank goes to its right neighbour first, then one further, and so on, and does not
// begin to send to another peer while more bytes than that are under way: sent to nearer ones, from
// whose mirror image, as far to the left, not all has come yet. So a link that takes what n - 1
// ranks send at once badly (a short queue) has few senders at a time. It cannot lock up: the
// nearest that is missing anywhere waits for nothing.
class Transfers {
 public:
  explicit Transfers(int size, size_t limit = std::numeric_limits<size_t>::max())
      : limit_(limit), peers_(size) {}

  void send(int to, std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    peers_[to].out.push_back(bytes);
    peers_[to].num_out += bytes.size();
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
    size_t num_out = 0;  // bytes
    size_t next_out = 0;
    size_t next_in = 0;
    bool is_sending() const { return next_out < out.size(); }
    bool is_receiving() const { return next_in < in.size(); }
    // Of the message that comes now: a peer that sends less has still to be heard.
    size_t awaited() const { return is_receiving() ? in[next_in].bytes.size() : 0; }
  };

  bool move(TcpMesh& mesh, std::vector<Interest>& interests);
  static bool push(TcpMesh& mesh, int to, Peer& peer);
  static bool pull(TcpMesh& mesh, int from, Peer& peer);

  const size_t limit_;
  std::vector<Peer> peers_;
};

}  // namespace deepseek_train::collectives
