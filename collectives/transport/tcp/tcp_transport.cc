#include "collectives/transport/tcp/tcp_transport.h"

#include <algorithm>
#include <cstring>

#include "collectives/algorithms/partition.h"
#include "collectives/algorithms/tree_reduce.h"
#include "collectives/rendezvous/address_exchange.h"
#include "collectives/transport/private_buffer.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

// Up to here every rank sends everything to all: one exchange instead of two.
constexpr size_t kSmallBytes = 8 << 10;
// Most of what a reduction receives before it reduces.
constexpr size_t kScratchBytes = 32 << 20;

}  // namespace

TcpTransport::TcpTransport(std::unique_ptr<TcpMesh> mesh, const TcpTransportOptions& options)
    : mesh_(std::move(mesh)), options_(options), signatures_(size()) {}

template <typename Body>
void TcpTransport::guarded(const Body& body) {
  mesh_->throw_if_failed();
  try {
    body();
  } catch (const PeerFailure&) {
    throw;
  } catch (const std::exception& error) {
    mesh_->fail(error.what());
    throw;
  }
}

void TcpTransport::run(const CollectiveCall& call) {
  guarded([&] {
    current_ = sign(call, ++sequence_);
    has_exchanged_signatures_ = false;
    dispatch(call);
  });
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

void TcpTransport::add_signatures(Transfers& transfers) {
  if (std::exchange(has_exchanged_signatures_, true)) return;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank()) add_signature(transfers, peer);
  }
}

void TcpTransport::add_signature(Transfers& transfers, int peer) {
  transfers.send(peer, std::as_bytes(std::span(&current_, 1)));
  transfers.recv(peer, std::as_writable_bytes(std::span(&signatures_[peer], 1)),
                 [this, peer] { check_signature(peer); });
}

void TcpTransport::check_signature(int peer) const {
  DST_CHECK(is_same_call(signatures_[peer], current_), "ranks made different calls: rank ", peer,
            " ", describe(signatures_[peer]), ", rank ", rank(), " ", describe(current_),
            "; all ranks must make the same calls in the same order");
}

// Every part is led by its size.
void TcpTransport::exchange(const CollectiveCall& call, OutgoingParts out, IncomingParts in) {
  guarded([&] {
    current_ = sign(call, ++sequence_);
    has_exchanged_signatures_ = false;
    std::vector<uint64_t> sizes(size()), offered(size());
    Transfers transfers(size());
    add_signatures(transfers);
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

SurvivingTransport TcpTransport::shrink(const std::string&) {
  throw Internal("shrink over tcp: being written");
}

std::byte* TcpTransport::scratch(size_t bytes) {
  if (scratch_.size() < bytes * size()) scratch_.resize(bytes * size());
  return scratch_.data();
}

void TcpTransport::barrier() {
  Transfers transfers(size());
  add_signatures(transfers);
  run(transfers);
}

void TcpTransport::all_reduce(const CollectiveCall& call) {
  const size_t element_bytes = size_bytes(call.dtype);
  const Algorithm algorithm = element_bytes == 2 ? options_.algorithm_16_bit : options_.algorithm;
  if (algorithm == Algorithm::kRing) return all_reduce_ring(call);
  if (call.count * element_bytes <= kSmallBytes) return all_reduce_once(call);
  all_reduce_direct(call);
}

void TcpTransport::all_reduce_once(const CollectiveCall& call) {
  const size_t bytes = call.count * size_bytes(call.dtype);
  auto* data = static_cast<std::byte*>(call.out);
  std::byte* received = scratch(bytes);
  std::vector<const std::byte*> sources(size());
  Transfers transfers(size());
  add_signatures(transfers);
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

void TcpTransport::all_reduce_direct(const CollectiveCall& call) {
  const size_t element_bytes = size_bytes(call.dtype);
  const size_t chunk = kScratchBytes / element_bytes;
  std::vector<const std::byte*> sources(size());
  for (size_t begin = 0; begin < call.count; begin += chunk) {
    const size_t count = std::min(chunk, call.count - begin);
    auto* data = static_cast<std::byte*>(call.out) + begin * element_bytes;
    const auto slice_bytes = [&](int owner) -> std::span<std::byte> {
      const Slice slice = slice_of(count, element_bytes, owner, size());
      return {data + slice.begin * element_bytes, slice.size() * element_bytes};
    };
    const auto mine = slice_bytes(rank());
    std::byte* received = scratch(mine.size());
    Transfers scatter(size());
    add_signatures(scatter);
    for (int hop = 1; hop < size(); ++hop) {
      const int peer = (rank() + hop) % size();
      scatter.send(peer, slice_bytes(peer));
      scatter.recv(peer, {received + peer * mine.size(), mine.size()});
    }
    run(scatter);
    for (int r = 0; r < size(); ++r)
      sources[r] = r == rank() ? mine.data() : received + r * mine.size();
    std::byte* destinations[] = {mine.data()};
    tree_reduce(call.dtype, call.op, sources, destinations, mine.size() / element_bytes);

    Transfers gather(size());
    for (int hop = 1; hop < size(); ++hop) {
      const int peer = (rank() + hop) % size();
      gather.send(peer, mine);
      gather.recv(peer, slice_bytes(peer));
    }
    run(gather);
  }
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
    Transfers transfers(size());
    add_signatures(transfers);
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
  Transfers transfers(size());
  add_signatures(transfers);
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
  add_signatures(deal);
  for (int peer = 0; is_root && peer < size(); ++peer) {
    if (peer != rank()) deal.send(peer, slice_bytes(peer));
  }
  if (!is_root) deal.recv(call.root, slice_bytes(rank()));
  run(deal);
  if (is_small) return;

  Transfers gather(size());
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
std::unique_ptr<Transport> TcpTransport::make_subgroup(const std::string& group,
                                                       const std::vector<int>& members) {
  std::unique_ptr<Transport> subgroup;
  guarded([&] {
    const UniqueFd listener = listen_on(options_.interfaces, 0);
    const int32_t port = port_of(listener);
    std::vector<int32_t> ports(members.size(), port);
    Transfers transfers(size());
    MeshOptions options{.key = job_key(group), .timeout = mesh_->timeout()};
    for (size_t i = 0; i < members.size(); ++i) {
      if (members[i] == rank()) {
        options.rank = static_cast<int>(i);
        continue;
      }
      transfers.send(members[i], std::as_bytes(std::span(&port, 1)));
      transfers.recv(members[i], std::as_writable_bytes(std::span(&ports[i], 1)));
    }
    run(transfers);
    for (size_t i = 0; i < members.size(); ++i)
      options.endpoints.push_back({mesh_->endpoint(members[i]).host, ports[i]});
    subgroup = std::make_unique<TcpTransport>(
        std::make_unique<TcpMesh>(std::move(options), listener), options_);
  });
  return subgroup;
}

}  // namespace deepseek_train::collectives
