// The ring: cut into n slices, each travels once round the ring to be summed and once more to be
// spread.
//
// Slice s starts at rank s; rank s+1 adds its own values to what it gets, and so on, so the order
// of summation is
// ((x[s] + x[s+1]) + x[s+2]) + ... + x[s-1], rank numbers modulo n, rounded to the element type at
// every hop. Bytes are passed on as soon as they are summed, not slice by slice, so that all links
// are busy all the time.
#include <algorithm>
#include <cstring>

#include "collectives/algorithms/partition.h"
#include "collectives/algorithms/tree_reduce.h"
#include "collectives/transport/tcp/progress_watch.h"
#include "collectives/transport/tcp/tcp_transport.h"

namespace deepseek_train::collectives {
namespace {

constexpr size_t kPieceBytes = 256 << 10;

class Ring {
 public:
  Ring(TcpMesh& mesh, const CollectiveCall& call, const CallSignature& signature)
      : mesh_(mesh),
        call_(call),
        data_(static_cast<std::byte*>(call.out)),
        element_bytes_(size_bytes(call.dtype)),
        size_(mesh.size()),
        next_((mesh.rank() + 1) % size_),
        previous_((mesh.rank() + size_ - 1) % size_),
        watch_(mesh, signature),
        piece_(kPieceBytes) {
    // What is received in stage t is sent in stage t + 1; what is sent first is one's own slice.
    sendable_ = slice_bytes(mesh_.rank()).size();
    skip_empty(out_, mesh_.rank());
    skip_empty(in_, previous_);
  }

  void run() {
    std::vector<Interest> interests(size_);
    Interest& to = interests[next_];
    Interest& from = interests[previous_];
    while (out_.stage < num_stages() || in_.stage < num_stages()) {
      bool has_moved = false;
      if (can_send() && to.may_send) has_moved |= to.may_send = push();
      if (can_receive() && from.may_receive) has_moved |= from.may_receive = pull();
      if (has_moved) {
        watch_.made_progress();
        continue;
      }
      to.sends = can_send();
      from.awaits = can_receive() ? worth_waking_for() : 0;
      watch_.idle(interests);
    }
  }

 private:
  // A place in the sequence of slices that pass by: stage t holds slice first - t.
  struct Position {
    int stage = 0;
    size_t offset = 0;  // bytes of the stage's slice that are done
  };

  int num_stages() const { return 2 * (size_ - 1); }
  std::span<std::byte> slice_bytes(int owner) const {
    const Slice slice = slice_of(call_.count, element_bytes_, owner, size_);
    return {data_ + slice.begin * element_bytes_, slice.size() * element_bytes_};
  }
  std::span<std::byte> at(const Position& position, int first) const {
    return slice_bytes(((first - position.stage) % size_ + size_) % size_);
  }
  void skip_empty(Position& position, int first) {
    while (position.stage < num_stages() && position.offset == at(position, first).size())
      position = {position.stage + 1, 0};
  }

  bool can_send() const { return out_.stage < num_stages() && sendable_ > 0; }
  bool can_receive() const { return in_.stage < num_stages(); }
  // Half a slice in hand keeps the next link busy while the other half comes.
  size_t worth_waking_for() const {
    const size_t slice = at(in_, previous_).size();
    const bool is_last = in_.stage == num_stages() - 1;
    const size_t rest = slice - in_.offset - num_waiting_;
    return is_last ? rest : std::min(rest, std::max<size_t>(1, slice / 2));
  }

  bool push() {
    const auto slice = at(out_, mesh_.rank());
    const size_t bytes = std::min({slice.size() - out_.offset, sendable_, kPieceBytes});
    const std::span<const std::byte> part = slice.subspan(out_.offset, bytes);
    const size_t sent = mesh_.try_send(next_, {&part, 1});
    sendable_ -= sent;
    out_.offset += sent;
    skip_empty(out_, mesh_.rank());
    return sent > 0;
  }

  bool pull() {
    const auto slice = at(in_, previous_).subspan(in_.offset);
    return in_.stage < size_ - 1 ? pull_and_reduce(slice) : pull_and_keep(slice);
  }

  // Received bytes wait in piece_ until whole elements are there.
  bool pull_and_reduce(std::span<std::byte> slice) {
    const size_t room = std::min(slice.size(), kPieceBytes) - num_waiting_;
    const size_t received =
        mesh_.try_recv(previous_, std::span(piece_).subspan(num_waiting_, room));
    if (received == 0) return false;
    num_waiting_ += received;
    const size_t count = num_waiting_ / element_bytes_;
    const size_t bytes = count * element_bytes_;
    accumulate(call_.dtype, call_.op, piece_.data(), slice.data(), count);
    const bool is_complete = in_.stage == size_ - 2;
    if (is_complete && call_.op == ReduceOp::kAvg) divide(call_.dtype, slice.data(), count, size_);
    num_waiting_ -= bytes;
    std::memmove(piece_.data(), piece_.data() + bytes, num_waiting_);
    advance_in(bytes);
    return true;
  }

  bool pull_and_keep(std::span<std::byte> slice) {
    const size_t received =
        mesh_.try_recv(previous_, slice.first(std::min(slice.size(), kPieceBytes)));
    advance_in(received);
    return received > 0;
  }

  void advance_in(size_t bytes) {
    if (in_.stage + 1 < num_stages()) sendable_ += bytes;
    in_.offset += bytes;
    skip_empty(in_, previous_);
  }

  TcpMesh& mesh_;
  const CollectiveCall& call_;
  std::byte* const data_;
  const size_t element_bytes_;
  const int size_;
  const int next_;
  const int previous_;
  ProgressWatch watch_;
  std::vector<std::byte> piece_;
  size_t num_waiting_ = 0;
  size_t sendable_ = 0;
  Position out_;
  Position in_;
};

}  // namespace

void TcpTransport::all_reduce_ring(const CollectiveCall& call) {
  // Who differs is found by its neighbour.
  Transfers greetings(size());
  greet(greetings, (rank() + 1) % size(), (rank() + size() - 1) % size());
  run(greetings);
  Ring(*mesh_, call, current_).run();
}

}  // namespace deepseek_train::collectives
