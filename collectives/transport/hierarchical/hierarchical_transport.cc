#include "collectives/transport/hierarchical/hierarchical_transport.h"

#include <algorithm>
#include <cstring>

#include "collectives/algorithms/tree_reduce.h"
#include "collectives/transport/hierarchical/widen.h"
#include "collectives/transport/shm/shm_transport.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"

namespace deepseek_train::collectives {
namespace {

// Up to here every rank of a host takes the whole buffer over the network: two steps, not three.
constexpr size_t kSmallBytes = 16 << 10;
// What is done at a time, so that no wait grows with the buffer.
constexpr size_t kPieceBytes = 64 << 20;

const std::byte* in_of(const CollectiveCall& call) {
  return static_cast<const std::byte*>(call.in);
}
std::byte* out_of(const CollectiveCall& call) { return static_cast<std::byte*>(call.out); }

// Of an all_reduce: elements [begin, begin + count).
CollectiveCall part_of(const CollectiveCall& call, size_t begin, size_t count) {
  CollectiveCall part = call;
  part.out = out_of(call) + begin * size_bytes(call.dtype);
  part.in = part.out;
  part.count = count;
  return part;
}

// In the transports below an average is a sum; it is divided here, by the number of all ranks.
CollectiveCall summed(CollectiveCall call) {
  if (call.op == ReduceOp::kAvg) call.op = ReduceOp::kSum;
  return call;
}

}  // namespace

HierarchicalTransport::HierarchicalTransport(std::unique_ptr<TcpTransport> world, HostLayout layout,
                                             std::string group, std::chrono::milliseconds timeout)
    : layout_(std::move(layout)), timeout_(timeout), world_(std::move(world)) {
  const auto& neighbours = layout_.ranks_of(host());
  local_ = std::make_unique<ShmTransport>(
      ShmTransportOptions{.group = concat(group, "/host.", host()),
                          .rank = index(),
                          .size = static_cast<int>(neighbours.size()),
                          .timeout = timeout});
  if (index() == 0 || layout_.is_even()) {
    std::vector<int> column;
    for (int h = 0; h < layout_.num_hosts(); ++h) column.push_back(layout_.ranks_of(h)[index()]);
    across_ = world_->make_subgroup(concat(group, "/across.", index()), column);
  }
  // A death anywhere reaches ranks that wait for their neighbours only.
  world_->set_failure_listener([this](const std::string& reason) {
    local_->abort(reason);
    if (across_) across_->abort(reason);
  });
}

template <typename Body>
void HierarchicalTransport::guarded(const Body& body) {
  try {
    body();
  } catch (const std::exception& error) {
    abort(error.what());
    throw;
  }
}

void HierarchicalTransport::abort(std::string_view reason) noexcept {
  world_->abort(reason);
  local_->abort(reason);
  if (across_) across_->abort(reason);
}

void HierarchicalTransport::run(const CollectiveCall& call) {
  guarded([&] {
    if (call.count > 0 && call.kind == Collective::kAllReduce)
      world_->run_with(call, [&] { all_reduce(call); });
    else if (call.count > 0 && call.kind == Collective::kBroadcast)
      world_->run_with(call, [&] { broadcast(call); });
    else if (call.count > 0 && call.kind == Collective::kAllGather && layout_.is_even())
      world_->run_with(call, [&] { all_gather(call); });
    else if (call.count > 0 && call.kind == Collective::kReduceScatter && layout_.is_even())
      world_->run_with(call, [&] { reduce_scatter(call); });
    else
      world_->run(call);
  });
}

void HierarchicalTransport::all_reduce(const CollectiveCall& call) {
  if (wide_type_of(call.dtype, call.op)) return all_reduce_wide(call);
  const size_t piece = kPieceBytes / size_bytes(call.dtype);
  for (size_t begin = 0; begin < call.count; begin += piece)
    all_reduce_piece(part_of(call, begin, std::min(piece, call.count - begin)));
}

void HierarchicalTransport::all_reduce_wide(const CollectiveCall& call) {
  const DType wide = *wide_type_of(call.dtype, call.op);
  const size_t piece = kPieceBytes / size_bytes(wide);
  if (scratch_.size() < std::min(piece, call.count) * size_bytes(wide))
    scratch_.resize(std::min(piece, call.count) * size_bytes(wide));
  for (size_t begin = 0; begin < call.count; begin += piece) {
    const CollectiveCall part = part_of(call, begin, std::min(piece, call.count - begin));
    CollectiveCall wide_part = part;
    wide_part.in = wide_part.out = scratch_.data();
    wide_part.dtype = wide;
    widen(call.dtype, in_of(part), scratch_.data(), part.count);
    all_reduce_piece(wide_part);
    narrow(call.dtype, scratch_.data(), out_of(part), part.count);
  }
}

void HierarchicalTransport::all_reduce_piece(const CollectiveCall& call) {
  const size_t num_neighbours = layout_.ranks_of(host()).size();
  const bool is_small = call.count * size_bytes(call.dtype) <= kSmallBytes;
  const size_t rest = is_small ? call.count : call.count % num_neighbours;
  if (!layout_.is_even()) return all_reduce_whole(call);
  if (rest < call.count) all_reduce_in_slices(part_of(call, 0, call.count - rest));
  if (rest > 0) all_reduce_whole(part_of(call, call.count - rest, rest));
}

// `count` is a multiple of the ranks of a host.
void HierarchicalTransport::all_reduce_in_slices(const CollectiveCall& call) {
  const size_t count = call.count / layout_.ranks_of(host()).size();
  const CollectiveCall slice = part_of(call, index() * count, count);
  CollectiveCall scatter = summed(slice);
  scatter.kind = Collective::kReduceScatter;
  scatter.in = call.out;
  local_->run(scatter);
  all_reduce_over_hosts(slice);
  CollectiveCall gather = slice;
  gather.kind = Collective::kAllGather;
  gather.out = call.out;
  local_->run(gather);
}

void HierarchicalTransport::all_reduce_whole(const CollectiveCall& call) {
  local_->run(summed(call));
  if (across_) all_reduce_over_hosts(call);
  if (layout_.is_even()) return;
  CollectiveCall spread = call;
  spread.kind = Collective::kBroadcast;
  spread.root = 0;
  local_->run(spread);
}

void HierarchicalTransport::all_reduce_over_hosts(const CollectiveCall& call) {
  across_->run(summed(call));
  if (call.op == ReduceOp::kAvg) divide(call.dtype, out_of(call), call.count, size());
}

// From the root to its neighbours, from one rank of that host to one of each other, and on to
// their neighbours.
void HierarchicalTransport::broadcast(const CollectiveCall& call) {
  const int root_host = layout_.host_of(call.root);
  CollectiveCall inside = call, between = call;
  inside.root = host() == root_host ? layout_.index_of(call.root) : 0;
  between.root = root_host;
  if (host() == root_host) local_->run(inside);
  if (index() == 0) across_->run(between);
  if (host() != root_host) local_->run(inside);
}

// Every rank gathers from those of its place on the other hosts, then its neighbours gather that.
void HierarchicalTransport::all_gather(const CollectiveCall& call) {
  const size_t bytes = call.count * size_bytes(call.dtype);
  const size_t num_hosts = layout_.num_hosts();
  const size_t num_neighbours = layout_.ranks_of(host()).size();
  if (scratch_.size() < (num_neighbours + 1) * num_hosts * bytes)
    scratch_.resize((num_neighbours + 1) * num_hosts * bytes);
  std::byte* column = scratch_.data();
  std::byte* columns = column + num_hosts * bytes;
  CollectiveCall between = call, inside = call;
  between.out = column;
  across_->run(between);
  inside.in = column;
  inside.out = columns;
  inside.count = call.count * num_hosts;
  local_->run(inside);
  for (int r = 0; r < size(); ++r)
    std::memcpy(out_of(call) + r * bytes,
                columns + (layout_.index_of(r) * num_hosts + layout_.host_of(r)) * bytes, bytes);
}

void HierarchicalTransport::exchange(const CollectiveCall& call, OutgoingParts out,
                                     IncomingParts in) {
  guarded([&] { world_->exchange(call, out, in); });
}
void HierarchicalTransport::send(std::span<const std::byte> bytes, int to) {
  guarded([&] { world_->send(bytes, to); });
}
void HierarchicalTransport::recv(std::span<std::byte> bytes, int from) {
  guarded([&] { world_->recv(bytes, from); });
}
std::unique_ptr<SharedBuffer> HierarchicalTransport::allocate_shared(size_t bytes) {
  std::unique_ptr<SharedBuffer> buffer;
  guarded([&] { buffer = world_->allocate_shared(bytes); });
  return buffer;
}

namespace {

std::unique_ptr<Transport> layered(std::unique_ptr<TcpTransport> world, HostLayout layout,
                                   const std::string& group, std::chrono::milliseconds timeout) {
  if (layout.num_hosts() == layout.num_ranks()) return world;
  return std::make_unique<HierarchicalTransport>(std::move(world), std::move(layout), group,
                                                 timeout);
}

}  // namespace

std::unique_ptr<Transport> HierarchicalTransport::make_subgroup(const std::string& group,
                                                                const std::vector<int>& members) {
  std::unique_ptr<Transport> subgroup;
  guarded([&] {
    const HostLayout layout = layout_.select(members);
    if (layout.num_hosts() > 1) {
      subgroup = layered(world_->make_tcp_subgroup(group, members), layout, group, timeout_);
      return;
    }
    std::vector<int> neighbours;
    for (const int member : members) neighbours.push_back(layout_.index_of(member));
    subgroup = local_->make_subgroup(group, neighbours);
  });
  return subgroup;
}

SurvivingTransport HierarchicalTransport::shrink(const std::string& group) {
  auto left = world_->shrink_tcp();
  std::vector<int> members;
  for (int r = 0; r < size(); ++r) {
    if (std::find(left.lost.begin(), left.lost.end(), r) == left.lost.end()) members.push_back(r);
  }
  SurvivingTransport result{.lost = std::move(left.lost), .interrupted = left.interrupted};
  const HostLayout layout = layout_.select(members);
  result.transport = layered(std::move(left.transport), layout, group, timeout_);
  return result;
}

}  // namespace deepseek_train::collectives
