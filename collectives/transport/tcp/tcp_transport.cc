#include "collectives/transport/tcp/tcp_transport.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "collectives/algorithms/partition.h"
#include "collectives/algorithms/tree_reduce.h"
#include "collectives/rendezvous/address_exchange.h"
#include "collectives/transport/private_buffer.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

// Up to here a broadcast goes straight from the root to all.
constexpr size_t kSmallBytes = 8 << 10;
// Most of what a reduce_scatter receives before it reduces.
constexpr size_t kScratchBytes = 32 << 20;

}  // namespace

TcpTransport::TcpTransport(std::unique_ptr<TcpMesh> mesh, const TcpTransportOptions& options)
    : mesh_(std::move(mesh)), options_(options), greetings_(size()) {}

// A numbered call, of which all ranks know.
template <typename Body>
void TcpTransport::in_call(const CollectiveCall& call, const Body& body) {
  guarded([&] {
    current_ = sign(call, ++sequence_);
    mesh_->control().enter(current_);
    if (renewal_ == 0 && mesh_->is_due_for_renewal()) renewal_ = num_greeted_ + size();
    has_greeted_ = false;
    recovery_.enter(sequence_);
    body();
    recovery_.pass();
    renew_connections_if_due();
  });
}

void TcpTransport::run(const CollectiveCall& call) {
  in_call(call, [&] { dispatch(call); });
}

void TcpTransport::run_with(const CollectiveCall& call, const std::function<void()>& body) {
  in_call(call, [&] {
    const bool is_kept = options_.is_recoverable && call.kind == Collective::kAllReduce;
    if (is_kept) recovery_.keep_input(call);
    body();
    if (!is_kept) return;
    recovery_.note_result();
    commit();
  });
}

// Over when every rank has its result. Until then no rank leaves its call, so the results lie
// untouched in the ranks' buffers.
void TcpTransport::commit() {
  char mine = 1;
  std::vector<char> others(size());
  Transfers transfers(size());
  add_greetings(transfers);
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    transfers.send(peer, std::as_bytes(std::span(&mine, 1)));
    transfers.recv(peer, std::as_writable_bytes(std::span(&others[peer], 1)));
  }
  run(transfers);
}

void TcpTransport::abort(std::string_view reason) noexcept {
  std::lock_guard lock(mesh_mutex_);
  mesh_->control().fail(reason);
}

void TcpTransport::dispatch(const CollectiveCall& call) {
  if (size() == 1) {
    if (call.count != 0 && call.in != call.out)
      std::memmove(call.out, call.in, call.count * size_bytes(call.dtype));
    return;
  }
  if (call.count == 0) return barrier();
  switch (call.kind) {
    case Collective::kAllReduce: return all_reduce(call);
    case Collective::kReduceScatter: return reduce_scatter(call);
    case Collective::kAllGather: return all_gather(call);
    case Collective::kBroadcast: return broadcast(call);
    case Collective::kBarrier: return barrier();
    default: throw Internal("an exchange came to TcpTransport::run");
  }
}

void TcpTransport::add_greetings(Transfers& transfers) {
  if (has_greeted_) return;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank()) greet(transfers, peer, peer);
  }
}

void TcpTransport::greet(Transfers& transfers, int to, int from) {
  has_greeted_ = true;
  greeting_ = {current_, renewal_};
  transfers.send(to, std::as_bytes(std::span(&greeting_, 1)));
  transfers.recv(from, std::as_writable_bytes(std::span(&greetings_[from], 1)),
                 [this, from] { check_greeting(from); });
}

void TcpTransport::check_greeting(int peer) {
  const CallSignature& theirs = greetings_[peer].call;
  mesh_->control().note_call(peer, theirs);
  const uint64_t renewal = greetings_[peer].renewal;
  if (renewal != 0 && (renewal_ == 0 || renewal < renewal_)) renewal_ = renewal;
  if (is_same_call(theirs, current_)) return;
  throw InvalidArgument(concat("ranks made different calls: rank ", peer, " ", describe(theirs),
                               ", rank ", rank(), " ", describe(current_),
                               "; all ranks must make the same calls in the same order",
                               mesh_->control().report()));
}

// Every part is led by its size.
void TcpTransport::exchange(const CollectiveCall& call, OutgoingParts out, IncomingParts in) {
  in_call(call, [&] {
    std::vector<uint64_t> sizes(size()), offered(size());
    Transfers transfers(size(), options_.costs.bytes_under_way());
    add_greetings(transfers);
    for (int hop = 1; hop < size(); ++hop) {
      const int peer = (rank() + hop) % size();
      sizes[peer] = out[peer].size();
      transfers.send(peer, std::as_bytes(std::span(&sizes[peer], 1)));
      transfers.send(peer, out[peer]);
      transfers.recv(peer, std::as_writable_bytes(std::span(&offered[peer], 1)), [&, peer] {
        DST_CHECK(offered[peer] == in[peer].size(), describe(current_), ": rank ", peer, " sends ",
                  offered[peer], " bytes to rank ", rank(), ", which expects ", in[peer].size());
      });
      transfers.recv(peer, in[peer]);
    }
    run(transfers);
    if (!in[rank()].empty() && in[rank()].data() != out[rank()].data())
      std::memmove(in[rank()].data(), out[rank()].data(), in[rank()].size());
  });
}

std::byte* TcpTransport::scratch(size_t bytes) {
  if (scratch_.size() < bytes * size()) scratch_.resize(bytes * size());
  return scratch_.data();
}

void TcpTransport::barrier() {
  Transfers transfers(size());
  add_greetings(transfers);
  run(transfers);
}

void TcpTransport::all_reduce(const CollectiveCall& call) {
  if (options_.is_recoverable) recovery_.keep_input(call);
  reduce_all(call);
  if (!options_.is_recoverable) return;
  recovery_.note_result();
  commit();
}

void TcpTransport::reduce_all(const CollectiveCall& call) {
  const size_t bytes = call.count * size_bytes(call.dtype);
  const std::vector<Way> ways = ways_of(call.dtype);
  const Way way = choose_way(ways, options_.costs, size(), bytes);
  if (options_.traces_choices && rank() == 0)  // all choose alike
    choices_.note(
        bytes, static_cast<int>(way), name_of(way), " over ", name(), "; ",
        ways.size() == 1 ? "asked for" : explain_choice(ways, options_.costs, size(), bytes));
  switch (way) {
    case Way::kOnce: return all_reduce_once(call);
    case Way::kDoubling: return all_reduce_doubling(call);
    case Way::kHalving: return all_reduce_halving(call);
    case Way::kDirect: return all_reduce_direct(call);
    case Way::kRing: return all_reduce_ring(call);
  }
}

std::vector<Way> TcpTransport::ways_of(DType dtype) const {
  const bool is_16_bit = size_bytes(dtype) == 2;
  const Algorithm algorithm = is_16_bit ? options_.algorithm_16_bit : options_.algorithm;
  if (algorithm == Algorithm::kRing) return {Way::kRing};
  // What is summed in a wider type than it is stored in must be summed in one place.
  const bool can_sum_in_pairs = size_bytes(dtype) >= 4;
  const bool has_partners = size() > 2 && std::has_single_bit(static_cast<unsigned>(size()));
  std::vector<Way> ways = {Way::kOnce};
  if (can_sum_in_pairs && has_partners) ways.insert(ways.end(), {Way::kDoubling, Way::kHalving});
  // Between hosts a port may lose what n - 1 ranks send to it at once, which no short probe shows.
  if (algorithm == Algorithm::kTree || !has_partners) ways.push_back(Way::kDirect);
  if (algorithm == Algorithm::kAny) ways.push_back(Way::kRing);
  return ways;
}

void TcpTransport::all_reduce_once(const CollectiveCall& call) {
  const size_t bytes = call.count * size_bytes(call.dtype);
  auto* data = static_cast<std::byte*>(call.out);
  std::byte* received = scratch(bytes);
  std::vector<const std::byte*> sources(size());
  Transfers transfers(size());
  add_greetings(transfers);
  for (int peer = 0; peer < size(); ++peer) {
    sources[peer] = peer == rank() ? data : received + peer * bytes;
    if (peer == rank()) continue;
    transfers.send(peer, {data, bytes});
    transfers.recv(peer, {received + peer * bytes, bytes});
  }
  run(transfers);
  std::byte* destinations[] = {data};
  tree_reduce(call.dtype, call.op, sources, destinations, call.count);
}

void TcpTransport::reduce_scatter(const CollectiveCall& call) {
  const size_t element_bytes = size_bytes(call.dtype);
  const size_t chunk = std::max<size_t>(1, kScratchBytes / element_bytes / size());
  const auto* in = static_cast<const std::byte*>(call.in);
  auto* out = static_cast<std::byte*>(call.out);
  std::vector<const std::byte*> sources(size());
  for (size_t begin = 0; begin < call.count; begin += chunk) {
    const size_t bytes = std::min(chunk, call.count - begin) * element_bytes;
    const auto part_of = [&](int r) { return in + (r * call.count + begin) * element_bytes; };
    std::byte* received = scratch(bytes);
    Transfers transfers(size(), options_.costs.bytes_under_way());
    add_greetings(transfers);
    for (int hop = 1; hop < size(); ++hop) {
      const int peer = (rank() + hop) % size();
      transfers.send(peer, {part_of(peer), bytes});
      transfers.recv(peer, {received + peer * bytes, bytes});
    }
    run(transfers);
    for (int r = 0; r < size(); ++r) sources[r] = r == rank() ? part_of(r) : received + r * bytes;
    std::byte* destinations[] = {out + begin * element_bytes};
    tree_reduce(call.dtype, call.op, sources, destinations, bytes / element_bytes);
  }
}

void TcpTransport::all_gather(const CollectiveCall& call) {
  const size_t bytes = call.count * size_bytes(call.dtype);
  const auto* in = static_cast<const std::byte*>(call.in);
  auto* out = static_cast<std::byte*>(call.out);
  Transfers transfers(size(), options_.costs.bytes_under_way());
  add_greetings(transfers);
  for (int hop = 1; hop < size(); ++hop) {
    const int peer = (rank() + hop) % size();
    transfers.send(peer, {in, bytes});
    transfers.recv(peer, {out + peer * bytes, bytes});
  }
  run(transfers);
  if (in != out + rank() * bytes) std::memmove(out + rank() * bytes, in, bytes);
}

// The root deals out slices, then all exchange them: the root sends 2(n-1)/n times the bytes
// instead of n-1 times.
void TcpTransport::broadcast(const CollectiveCall& call) {
  const size_t bytes = call.count * size_bytes(call.dtype);
  auto* data = static_cast<std::byte*>(call.out);
  const bool is_root = rank() == call.root;
  const bool is_small = bytes <= kSmallBytes || size() == 2;
  const auto slice_bytes = [&](int owner) -> std::span<std::byte> {
    const Slice slice = is_small ? Slice{0, bytes} : slice_of(bytes, 1, owner, size());
    return {data + slice.begin, slice.size()};
  };
  Transfers deal(size());
  add_greetings(deal);
  for (int peer = 0; is_root && peer < size(); ++peer) {
    if (peer != rank()) deal.send(peer, slice_bytes(peer));
  }
  if (!is_root) deal.recv(call.root, slice_bytes(rank()));
  run(deal);
  if (is_small) return;

  Transfers gather(size(), options_.costs.bytes_under_way());
  for (int hop = 1; hop < size(); ++hop) {
    const int peer = (rank() + hop) % size();
    if (peer != call.root) gather.send(peer, slice_bytes(rank()));
    if (!is_root) gather.recv(peer, slice_bytes(peer));
  }
  run(gather);
}

std::unique_ptr<SharedBuffer> TcpTransport::allocate_shared(size_t bytes) {
  auto buffer = make_private_buffer(bytes);
  run(CollectiveCall{});  // collective here too, so that a program behaves alike on every transport
  return buffer;
}

void TcpTransport::send(std::span<const std::byte> bytes, int to) {
  guarded([&] {
    current_ = sign_send(bytes.size(), to);
    mesh_->control().enter(current_);
    const uint64_t message_bytes = bytes.size();
    Transfers transfers(size());
    transfers.send(to, std::as_bytes(std::span(&message_bytes, 1)));
    transfers.send(to, bytes);
    run(transfers);
  });
}

void TcpTransport::recv(std::span<std::byte> bytes, int from) {
  guarded([&] {
    current_ = sign_recv(bytes.size(), from);
    mesh_->control().enter(current_);
    uint64_t message_bytes = 0;
    Transfers transfers(size());
    transfers.recv(from, std::as_writable_bytes(std::span(&message_bytes, 1)), [&] {
      DST_CHECK(message_bytes == bytes.size(), "recv of ", bytes.size(), " bytes from rank ", from,
                ", which sends ", message_bytes, "; both must name the same size");
    });
    transfers.recv(from, bytes);
    run(transfers);
  });
}

// The members tell each other over the old connections where they listen.
std::unique_ptr<TcpMesh> TcpTransport::make_mesh(const std::string& group,
                                                 const std::vector<int>& members) {
  const UniqueFd listener = listen_on(options_.interfaces, 0);
  const int32_t port = port_of(listener);
  std::vector<int32_t> ports(members.size(), port);
  Transfers transfers(size());
  MeshOptions options{.key = job_key(group),
                      .num_streams = mesh_->options().num_streams,
                      .timeout = mesh_->timeout(),
                      .streams = mesh_->options().streams};
  for (size_t i = 0; i < members.size(); ++i) {
    options.launch_ranks.push_back(mesh_->options().launch_ranks[members[i]]);
    if (members[i] == rank()) {
      options.rank = static_cast<int>(i);
      continue;
    }
    transfers.send(members[i], std::as_bytes(std::span(&port, 1)));
    transfers.recv(members[i], std::as_writable_bytes(std::span(&ports[i], 1)));
  }
  run(transfers);
  for (size_t i = 0; i < members.size(); ++i)
    options.endpoints.push_back({mesh_->host(members[i]), ports[i]});
  return std::make_unique<TcpMesh>(std::move(options), listener,
                                   [this] { mesh_->control().throw_if_failed(); });
}

std::unique_ptr<Transport> TcpTransport::make_subgroup(const std::string& group,
                                                       const std::vector<int>& members) {
  return make_tcp_subgroup(group, members);
}

std::unique_ptr<TcpTransport> TcpTransport::make_tcp_subgroup(const std::string& group,
                                                              const std::vector<int>& members) {
  std::unique_ptr<TcpTransport> subgroup;
  guarded([&] { subgroup = std::make_unique<TcpTransport>(make_mesh(group, members), options_); });
  return subgroup;
}

// A rank's wish reaches at least its right neighbour with every call that has greetings, so after
// size() of them all know it, and all count them alike.
void TcpTransport::renew_connections_if_due() {
  if (!has_greeted_ || ++num_greeted_ != renewal_) return;
  renewal_ = 0;
  std::vector<int> everybody(size());
  std::iota(everybody.begin(), everybody.end(), 0);
  const std::string group = concat(mesh_->options().key, "/renewal.", ++num_renewals_);
  auto renewed = make_mesh(group, everybody);
  std::lock_guard lock(mesh_mutex_);
  mesh_->control().throw_if_failed();
  mesh_.swap(renewed);
  mesh_->control().set_failure_listener(failure_listener_);
}

void TcpTransport::set_failure_listener(std::function<void(const std::string&)> listener) {
  failure_listener_ = std::move(listener);
  mesh_->control().set_failure_listener(failure_listener_);
}

}  // namespace deepseek_train::collectives
