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

// Both directions with all peers, as far as it goes now; true if anything moved.
bool Transfers::move(TcpMesh& mesh, std::vector<Interest>& interests) {
  const int size = mesh.size();
  bool has_moved = false;
  size_t under_way = 0;
  for (int hop = 1; hop < size; ++hop) {
    const int to = (mesh.rank() + hop) % size, from = (mesh.rank() + size - hop) % size;
    Interest& out = interests[to];
    Interest& in = interests[from];
    const bool may_begin = under_way <= limit_;
    if (peers_[to].is_sending() && may_begin && out.may_send)
      has_moved |= out.may_send = push(mesh, to, peers_[to]);
    if (peers_[from].is_receiving() && in.may_receive)
      has_moved |= in.may_receive = pull(mesh, from, peers_[from]);
    out.sends = peers_[to].is_sending() && may_begin;
    in.awaits = peers_[from].awaited();
    if (peers_[from].is_receiving()) under_way += peers_[to].num_out;
  }
  return has_moved;
}

void Transfers::run(TcpMesh& mesh, const CallSignature& call) {
  ProgressWatch watch(mesh, call);
  std::vector<Interest> interests(peers_.size());
  const auto is_busy = [](const Peer& peer) { return peer.is_sending() || peer.is_receiving(); };
  while (std::any_of(peers_.begin(), peers_.end(), is_busy)) {
    if (move(mesh, interests))
      watch.made_progress();
    else
      watch.idle(interests);
  }
}

}  // namespace deepseek_train::collectives
