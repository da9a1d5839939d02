#include "collectives/transport/tcp/transfers.h"

#include <algorithm>

#include "collectives/transport/tcp/progress_watch.h"

namespace deepseek_train::collectives {

// Both return whether any byte moved.
bool Transfers::push(TcpMesh& mesh, int to, Peer& peer) {
  size_t sent = mesh.try_send(to, std::span(peer.out).subspan(peer.next_out));
  const bool has_moved = sent > 0;
  while (sent > 0) {
    auto& bytes = peer.out[peer.next_out];
    const size_t taken = std::min(sent, bytes.size());
    bytes = bytes.subspan(taken);
    sent -= taken;
    if (bytes.empty()) ++peer.next_out;
  }
  return has_moved;
}

bool Transfers::pull(TcpMesh& mesh, int from, Peer& peer) {
  Incoming& incoming = peer.in[peer.next_in];
  const size_t received = mesh.try_recv(from, incoming.bytes);
  incoming.bytes = incoming.bytes.subspan(received);
  if (incoming.bytes.empty()) {
    ++peer.next_in;
    if (incoming.on_arrival) incoming.on_arrival();
  }
  return received > 0;
}

void Transfers::run(TcpMesh& mesh, const CallSignature& call) {
  ProgressWatch watch(mesh, call);
  std::vector<short> interests(peers_.size());
  for (;;) {
    bool is_done = true;
    bool has_moved = false;
    for (size_t i = 0; i < peers_.size(); ++i) {
      Peer& peer = peers_[i];
      const int rank = static_cast<int>(i);
      if (peer.is_sending()) has_moved |= push(mesh, rank, peer);
      if (peer.is_receiving()) has_moved |= pull(mesh, rank, peer);
      interests[i] = static_cast<short>((peer.is_sending() ? POLLOUT : 0) |
                                        (peer.is_receiving() ? POLLIN : 0));
      is_done &= interests[i] == 0;
    }
    if (is_done) return;
    if (has_moved)
      watch.made_progress();
    else
      watch.idle(interests);
  }
}

}  // namespace deepseek_train::collectives
