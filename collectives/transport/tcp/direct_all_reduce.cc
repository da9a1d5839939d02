// All-reduce by direct exchange, pipelined.
//
// Every slice is cut into pieces. To rank p goes, in turn, piece i of this rank's values of p's
// slice, then piece i - kLag of this rank's own slice as reduced. A piece is reduced in tree order
// while it is hot, as soon as it has come from everybody. Both ends know the turns, so nothing but
// values travels. Rank i sends 2 (n-1)/n times the bytes, as on a ring.
//
// It cannot lock up: the first piece that is not reduced somewhere waits only for values that lie
// behind reduced pieces in their streams, and everything before them can be taken in.
#include <algorithm>
#include <vector>

#include "collectives/algorithms/partition.h"
#include "collectives/algorithms/tree_reduce.h"
#include "collectives/transport/tcp/progress_watch.h"
#include "collectives/transport/tcp/tcp_transport.h"

namespace deepseek_train::collectives {
namespace {

constexpr size_t kPieceBytes = 128 << 10;
constexpr size_t kLag = 2;
// How many pieces of one rank may have come before they are reduced.
constexpr size_t kWindow = 4;
// Most parts handed to one system call.
constexpr size_t kMaxParts = 4;

class DirectAllReduce {
 public:
  // `scratch` holds kWindow pieces of every rank.
  DirectAllReduce(TcpMesh& mesh, const CollectiveCall& call, const CallSignature& signature,
                  std::byte* scratch)
      : mesh_(mesh),
        call_(call),
        element_bytes_(size_bytes(call.dtype)),
        scratch_(scratch),
        watch_(mesh, signature),
        slices_(mesh.size()),
        outgoing_(mesh.size()),
        incoming_(mesh.size()),
        num_arrived_(mesh.size()),
        sources_(mesh.size()) {
    auto* data = static_cast<std::byte*>(call.out);
    for (int r = 0; r < mesh.size(); ++r) {
      const Slice slice = slice_of(call.count, element_bytes_, r, mesh.size());
      slices_[r] = {data + slice.begin * element_bytes_, slice.size() * element_bytes_};
    }
    for (int peer = 0; peer < mesh.size(); ++peer) {
      if (peer == mesh.rank()) continue;
      skip_nothing(outgoing_[peer], peer, mesh.rank());
      skip_nothing(incoming_[peer], mesh.rank(), peer);
    }
  }

  void run() {
    std::vector<Interest> interests(mesh_.size());
    while (!is_done()) {
      bool has_moved = false;
      for (int hop = 1; hop < mesh_.size(); ++hop) {
        const int to = (rank() + hop) % mesh_.size();
        const int from = (rank() + mesh_.size() - hop) % mesh_.size();
        if (can_send(outgoing_[to]) && interests[to].may_send)
          has_moved |= interests[to].may_send = push(to);
        if (can_receive(incoming_[from]) && interests[from].may_receive)
          has_moved |= interests[from].may_receive = pull(from);
      }
      if (has_moved) {
        watch_.made_progress();
        continue;
      }
      for (int peer = 0; peer < mesh_.size(); ++peer) note_wishes(peer, interests[peer]);
      watch_.idle(interests);
    }
  }

 private:
  // A place in a stream from one rank to another: even turns are values of the receiver's slice,
  // odd ones results of the sender's.
  struct Cursor {
    size_t turn = 0;
    size_t offset = 0;  // bytes of this turn's piece that are done
    bool is_at_end = false;
    bool is_result() const { return turn % 2 == 1; }
    size_t piece() const { return is_result() ? turn / 2 - kLag : turn / 2; }
  };

  int rank() const { return mesh_.rank(); }
  size_t num_pieces(int owner) const {
    return (slices_[owner].size() + kPieceBytes - 1) / kPieceBytes;
  }
  std::span<std::byte> piece_of(int owner, size_t piece) const {
    const size_t begin = piece * kPieceBytes;
    return slices_[owner].subspan(begin, std::min(kPieceBytes, slices_[owner].size() - begin));
  }
  std::byte* arrival(int peer, size_t piece) const {
    return scratch_ + (peer * kWindow + piece % kWindow) * kPieceBytes;
  }

  // Moves on over turns that hold nothing. `values_of` owns the slice of even turns.
  void skip_nothing(Cursor& cursor, int values_of, int results_of) const {
    const size_t values = num_pieces(values_of), results = num_pieces(results_of);
    const size_t end = 2 * std::max(values, results + kLag);
    while (cursor.turn < end) {
      const size_t step = cursor.turn / 2;
      const bool is_something =
          cursor.is_result() ? step >= kLag && step - kLag < results : step < values;
      if (is_something) return;
      ++cursor.turn;
    }
    cursor.is_at_end = true;
  }
  void advance(Cursor& cursor, int values_of, int results_of) const {
    ++cursor.turn;
    cursor.offset = 0;
    skip_nothing(cursor, values_of, results_of);
  }

  bool is_done() const {
    for (int peer = 0; peer < mesh_.size(); ++peer) {
      if (peer == rank()) continue;
      if (!outgoing_[peer].is_at_end || !incoming_[peer].is_at_end) return false;
    }
    return true;
  }
  void note_wishes(int peer, Interest& interest) const {
    if (peer == rank()) return;
    interest.sends = can_send(outgoing_[peer]);
    interest.awaits = can_receive(incoming_[peer]) ? incoming_bytes(incoming_[peer], peer) : 0;
  }
  bool can_send(const Cursor& out) const {
    return !out.is_at_end && (!out.is_result() || out.piece() < num_reduced_);
  }
  bool can_receive(const Cursor& in) const {
    return !in.is_at_end && (in.is_result() || in.piece() < num_reduced_ + kWindow);
  }

  std::span<const std::byte> outgoing_bytes(const Cursor& out, int peer) const {
    return piece_of(out.is_result() ? rank() : peer, out.piece()).subspan(out.offset);
  }

  size_t incoming_bytes(const Cursor& in, int peer) const {
    return piece_of(in.is_result() ? peer : rank(), in.piece()).size() - in.offset;
  }

  bool push(int peer) {
    std::span<const std::byte> parts[kMaxParts];
    size_t num_parts = 0;
    for (Cursor next = outgoing_[peer]; num_parts < kMaxParts && can_send(next);
         advance(next, peer, rank()))
      parts[num_parts++] = outgoing_bytes(next, peer);
    size_t sent = mesh_.try_send(peer, {parts, num_parts});
    if (sent == 0) return false;
    Cursor& out = outgoing_[peer];
    while (sent > 0) {
      const size_t bytes = std::min(sent, outgoing_bytes(out, peer).size());
      out.offset += bytes;
      sent -= bytes;
      if (outgoing_bytes(out, peer).empty()) advance(out, peer, rank());
    }
    return true;
  }

  bool pull(int peer) {
    Cursor& in = incoming_[peer];
    std::span<std::byte> target = piece_of(in.is_result() ? peer : rank(), in.piece());
    if (!in.is_result()) target = {arrival(peer, in.piece()), target.size()};
    const size_t received = mesh_.try_recv(peer, target.subspan(in.offset));
    if (received == 0) return false;
    in.offset += received;
    if (in.offset < target.size()) return true;
    const bool is_value = !in.is_result();
    advance(in, rank(), peer);
    if (is_value) {
      ++num_arrived_[peer];
      reduce_what_is_there();
    }
    return true;
  }

  void reduce_what_is_there() {
    for (;;) {
      for (int peer = 0; peer < mesh_.size(); ++peer) {
        if (peer != rank() && num_arrived_[peer] <= num_reduced_) return;
      }
      if (num_reduced_ == num_pieces(rank())) return;
      const auto mine = piece_of(rank(), num_reduced_);
      for (int r = 0; r < mesh_.size(); ++r)
        sources_[r] = r == rank() ? mine.data() : arrival(r, num_reduced_);
      std::byte* destinations[] = {mine.data()};
      tree_reduce(call_.dtype, call_.op, sources_, destinations, mine.size() / element_bytes_);
      ++num_reduced_;
    }
  }

  TcpMesh& mesh_;
  const CollectiveCall& call_;
  const size_t element_bytes_;
  std::byte* const scratch_;
  ProgressWatch watch_;
  std::vector<std::span<std::byte>> slices_;
  std::vector<Cursor> outgoing_;
  std::vector<Cursor> incoming_;
  std::vector<size_t> num_arrived_;
  std::vector<const std::byte*> sources_;
  size_t num_reduced_ = 0;
};

}  // namespace

void TcpTransport::all_reduce_direct(const CollectiveCall& call) {
  Transfers greetings(size());
  add_greetings(greetings);
  run(greetings);
  DirectAllReduce(*mesh_, call, current_, scratch(kWindow * kPieceBytes)).run();
}

}  // namespace deepseek_train::collectives
