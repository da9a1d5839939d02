#include "collectives/transport/shm/shm_transport.h"

#include <algorithm>
#include <cstring>

#include "collectives/algorithms/tree_reduce.h"
#include "collectives/transport/shm/copy_bytes.h"
#include "collectives/transport/shm/messages.h"
#include "collectives/transport/shm/shm_transport_chunks.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

// Of what ranks must agree on, and of where the data lies: equal digests need no closer look.
uint32_t digest_of(const CallSignature& call) {
  uint64_t digest = 0x9e3779b97f4a7c15u;
  const auto mix = [&](uint64_t word) {
    digest = (digest ^ word) * 0xff51afd7ed558ccdu;
    digest ^= digest >> 32;
  };
  mix(call.sequence);
  mix(call.count);
  mix(call.arena_offset);
  mix(uint64_t{call.arena} << 32 | static_cast<uint32_t>(call.root));
  mix(uint64_t{call.kind} << 24 | uint64_t{call.dtype} << 16 | uint64_t{call.op} << 8 |
      call.has_uneven_parts);
  return static_cast<uint32_t>(digest);
}

}  // namespace

ShmTransport::ShmTransport(const ShmTransportOptions& options)
    : options_(options),
      group_(options.group, options.rank, options.size, options.timeout),
      sources_(options.size),
      buffers_(options.size) {
  if (options.private_way != PrivateWay::kStaged && size() > 1)
    guarded([&] { peers_.probe(group_); });
}

ShmTransport::ShmTransport(const ShmTransportOptions& options, Mapping segment)
    : options_(options),
      group_(std::move(segment), options.rank, options.size, options.timeout),
      sources_(options.size),
      buffers_(options.size) {}

ShmTransport::ShmTransport(const ShmTransportOptions& options, std::span<const ProcessId> members,
                           const ShmTransport& whole)
    : options_(options),
      group_(options.group, options.rank, options.size, options.timeout, members),
      peers_(whole.peers_),
      sources_(options.size),
      buffers_(options.size) {}

template <typename Body>
void ShmTransport::guarded(const Body& body) {
  group_.throw_if_failed();
  try {
    body();
  } catch (const PeerFailure&) {
    throw;
  } catch (const std::exception& error) {
    group_.fail(error.what());
    throw;
  }
}

// Remembers the call that the group ended under, for shrink(). A call refused because the group had
// already ended counts as well: nothing of it has happened.
template <typename Body>
void ShmTransport::guarded_call(const CollectiveCall& call, const Body& body) {
  const uint64_t number = sequence_ + 1;
  try {
    guarded(body);
  } catch (...) {
    if (!pending_) pending_ = Pending{call, number};
    throw;
  }
  ++num_completed_;
  group_.leave_call();
}

void ShmTransport::run(const CollectiveCall& call) {
  guarded_call(call, [&] { dispatch(call); });
}

void ShmTransport::dispatch(const CollectiveCall& call) {
  if (size() == 1) {
    ++sequence_;
    return copy_bytes(call.out, call.in, call.count * size_bytes(call.dtype));
  }
  switch (call.kind) {
    case Collective::kAllReduce: return all_reduce(call);
    case Collective::kReduceScatter: return reduce_scatter(call);
    case Collective::kAllGather: return all_gather(call);
    case Collective::kBroadcast: return broadcast(call);
    case Collective::kBarrier: return barrier(call);
    default: throw Internal("an exchange came to ShmTransport::run");
  }
}

void ShmTransport::open_call(const CollectiveCall& call, const ArenaLocation& location) {
  signature_ = sign(call, ++sequence_);
  signature_.arena = location.arena ? location.arena->id : 0;
  signature_.arena_offset = location.offset;
  digest_ = digest_of(signature_);
  are_alike_ = false;
  open_step_ = group_.open_call(signature_, digest_);
}

bool ShmTransport::await_same_call() {
  group_.wait_for_all(open_step_);
  are_alike_ = true;
  for (int peer = 0; peer < size(); ++peer) are_alike_ &= group_.digest_of(peer) == digest_;
  if (are_alike_) return true;
  // Another call, data in another place, or a rank that has gone on to its next call meanwhile.
  for (int peer = 0; peer < size(); ++peer) {
    const CallSignature theirs = group_.call_of(peer, sequence_);
    DST_CHECK(is_same_call(theirs, signature_),
              "ranks made different calls: ", group_.name_rank(peer), " ", describe(theirs), ", ",
              group_.name_rank(rank()), " ", describe(signature_),
              "; all ranks must make the same calls in the same order; ", group_.report());
  }
  return false;
}

std::span<const std::byte* const> ShmTransport::slots_at(size_t chunk, size_t offset_bytes) {
  for (int r = 0; r < size(); ++r) sources_[r] = slot(r, chunk) + offset_bytes;
  return sources_;
}

void ShmTransport::barrier(const CollectiveCall& call) {
  open_call(call, {});
  await_same_call();
}

// A slot holds the same stretch of every rank's part, one after another.
void ShmTransport::reduce_scatter(const CollectiveCall& call) {
  const size_t element_bytes = size_bytes(call.dtype);
  const size_t chunk = std::max<size_t>(1, kSlotBytes / element_bytes / size());
  const auto* in = static_cast<const std::byte*>(call.in);
  auto* out = static_cast<std::byte*>(call.out);
  const auto count_of = [&](size_t j) { return std::min(chunk, call.count - j * chunk); };
  const auto fill = [&](size_t j) {
    for (int r = 0; r < size(); ++r)
      copy_bytes(slot(rank(), j) + r * chunk * element_bytes,
                 in + (r * call.count + j * chunk) * element_bytes, count_of(j) * element_bytes);
  };
  run_in_chunks(call, num_chunks_of(call.count, chunk), fill, [&](size_t j) {
    std::byte* destinations[] = {out + j * chunk * element_bytes};
    tree_reduce(call.dtype, call.op, slots_at(j, rank() * chunk * element_bytes), destinations,
                count_of(j));
  });
}

void ShmTransport::all_gather(const CollectiveCall& call) {
  const size_t bytes = call.count * size_bytes(call.dtype);
  const auto* in = static_cast<const std::byte*>(call.in);
  auto* out = static_cast<std::byte*>(call.out);
  const auto bytes_of = [&](size_t j) { return std::min(kSlotBytes, bytes - j * kSlotBytes); };
  const auto fill = [&](size_t j) {
    copy_bytes(slot(rank(), j), in + j * kSlotBytes, bytes_of(j));
  };
  run_in_chunks(call, num_chunks_of(bytes, kSlotBytes), fill, [&](size_t j) {
    for (int r = 0; r < size(); ++r)
      copy_bytes(out + r * bytes + j * kSlotBytes, r == rank() ? in + j * kSlotBytes : slot(r, j),
                 bytes_of(j));
  });
}

void ShmTransport::broadcast(const CollectiveCall& call) {
  const size_t bytes = call.count * size_bytes(call.dtype);
  auto* data = static_cast<std::byte*>(call.out);
  const auto bytes_of = [&](size_t j) { return std::min(kSlotBytes, bytes - j * kSlotBytes); };
  const bool is_root = rank() == call.root;
  const auto fill = [&](size_t j) {
    if (is_root) copy_bytes(slot(rank(), j), data + j * kSlotBytes, bytes_of(j));
  };
  run_in_chunks(call, num_chunks_of(bytes, kSlotBytes), fill, [&](size_t j) {
    if (!is_root) copy_bytes(data + j * kSlotBytes, slot(call.root, j), bytes_of(j));
  });
}

void ShmTransport::exchange(const CollectiveCall& call, OutgoingParts out, IncomingParts in) {
  guarded_call(call, [&] { exchange_parts(call, out, in); });
}

std::unique_ptr<SharedBuffer> ShmTransport::allocate_shared(size_t bytes) {
  std::shared_ptr<Arena> arena;
  const ArenaPart part(bytes);
  std::vector<ArenaOffer> offers(size());
  // The offers travel by all_gather; the barrier keeps the descriptors open until all have mapped
  // them.
  run({.kind = Collective::kAllGather,
       .in = &part.offer(),
       .out = offers.data(),
       .count = sizeof(ArenaOffer)});
  guarded([&] { arena = part.map(++last_arena_, rank(), offers); });
  run({});
  arenas_.add(arena);
  return make_shared_buffer(arena, bytes);
}

std::unique_ptr<Transport> ShmTransport::make_subgroup(const std::string& group,
                                                       const std::vector<int>& members) {
  const auto place = std::find(members.begin(), members.end(), rank());
  DST_ASSERT(place != members.end(), "rank ", rank(), " makes a group it is not in");
  ShmTransportOptions options = options_;
  options.group = group;
  options.rank = static_cast<int>(place - members.begin());
  options.size = static_cast<int>(members.size());
  std::vector<ProcessId> processes;
  for (const int r : members) processes.push_back(group_.layout().rank(r).process);
  return std::unique_ptr<Transport>(new ShmTransport(options, processes, *this));
}

void ShmTransport::send(std::span<const std::byte> bytes, int to) {
  guarded([&] { send_pieces(group_, bytes, to); });
  group_.leave_call();
}

void ShmTransport::recv(std::span<std::byte> bytes, int from) {
  guarded([&] { recv_pieces(group_, bytes, from); });
  group_.leave_call();
}

}  // namespace deepseek_train::collectives
