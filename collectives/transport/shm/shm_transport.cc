#include "collectives/transport/shm/shm_transport.h"

#include <algorithm>
#include <cstring>

#include "collectives/algorithms/partition.h"
#include "collectives/algorithms/tree_reduce.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

// Up to here every rank reduces everything by itself: one step instead of two.
constexpr size_t kSmallBytes = 8 << 10;

size_t num_chunks_of(size_t count, size_t chunk) { return (count + chunk - 1) / chunk; }

void copy_bytes(void* to, const void* from, size_t bytes) {
  if (bytes != 0 && to != from) std::memmove(to, from, bytes);
}

}  // namespace

ShmTransport::ShmTransport(const std::string& job_id, int rank, int size,
                           std::chrono::milliseconds timeout)
    : group_(job_id, rank, size, timeout) {}

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

void ShmTransport::run(const CollectiveCall& call) {
  guarded([&] { dispatch(call); });
}

void ShmTransport::dispatch(const CollectiveCall& call) {
  if (size() == 1) return copy_bytes(call.out, call.in, call.count * size_bytes(call.dtype));
  switch (call.kind) {
    case Collective::kAllReduce: return all_reduce(call);
    case Collective::kReduceScatter: return reduce_scatter(call);
    case Collective::kAllGather: return all_gather(call);
    case Collective::kBroadcast: return broadcast(call);
    case Collective::kBarrier: return barrier(call);
    default: throw Internal("an exchange came to ShmTransport::run");
  }
}

void ShmTransport::exchange(const CollectiveCall&, OutgoingParts, IncomingParts) {
  throw Internal("exchange over shm: being written");
}

SurvivingTransport ShmTransport::shrink(const std::string&) {
  throw Internal("shrink over shm: being written");
}

void ShmTransport::open_call(const CollectiveCall& call, const ArenaLocation& location) {
  CallSignature mine = sign(call, ++sequence_);
  mine.arena = location.arena ? location.arena->id : 0;
  mine.arena_offset = location.offset;
  group_.set_current(mine);
  group_.layout().rank(rank()).calls[sequence_ % 2] = mine;
  open_step_ = group_.advance();
}

void ShmTransport::await_same_call() {
  group_.wait_for_all(open_step_);
  const CallSignature& mine = call_of(rank());
  for (int peer = 0; peer < size(); ++peer) {
    DST_CHECK(is_same_call(call_of(peer), mine), "ranks made different calls: rank ", peer, " ",
              describe(call_of(peer)), ", rank ", rank(), " ", describe(mine),
              "; all ranks must make the same calls in the same order");
  }
}

const CallSignature& ShmTransport::call_of(int rank) const {
  return group_.layout().rank(rank).calls[sequence_ % 2];
}

std::vector<const std::byte*> ShmTransport::slots_at(size_t chunk, size_t offset_bytes) const {
  std::vector<const std::byte*> sources(size());
  for (int r = 0; r < size(); ++r) sources[r] = slot(r, chunk) + offset_bytes;
  return sources;
}

template <typename Fill, typename Drain>
void ShmTransport::run_in_chunks(const CollectiveCall& call, size_t num_chunks, const Fill& fill,
                                 const Drain& drain) {
  if (num_chunks > 0) fill(0);
  open_call(call, {});
  await_same_call();
  drain_chunks(num_chunks, fill, drain);
}

template <typename Fill, typename Drain>
void ShmTransport::drain_chunks(size_t num_chunks, const Fill& fill, const Drain& drain) {
  uint32_t filled_step = open_step_;
  for (size_t j = 0; j < num_chunks; ++j) {
    const uint32_t this_step = filled_step;
    if (j + 1 < num_chunks) {
      fill(j + 1);
      filled_step = group_.advance();
    }
    group_.wait_for_all(this_step);
    drain(j);
  }
  next_chunk_ += num_chunks;
}

void ShmTransport::barrier(const CollectiveCall& call) {
  open_call(call, {});
  await_same_call();
}

void ShmTransport::all_reduce(const CollectiveCall& call) {
  const size_t bytes = call.count * size_bytes(call.dtype);
  const ArenaLocation location = arenas_.find(call.out, bytes);
  // Private data goes with the opening step; whether all ranks are in one arena is only known after
  // it.
  if (!location.arena) copy_bytes(slot(rank(), 0), call.in, std::min(bytes, kSlotBytes));
  open_call(call, location);
  await_same_call();
  bool any_in_arena = false;
  bool all_in_same_arena = true;
  for (int r = 0; r < size(); ++r) {
    any_in_arena |= call_of(r).arena != 0;
    all_in_same_arena &= call_of(r).arena != 0 && call_of(r).arena == call_of(0).arena;
  }
  if (all_in_same_arena) return all_reduce_in_arena(call, location);
  if (any_in_arena) {
    if (location.arena) copy_bytes(slot(rank(), 0), call.in, std::min(bytes, kSlotBytes));
    open_step_ = group_.advance();
  }
  all_reduce_staged(call);
}

// Each rank reduces its own slice of all buffers straight into all buffers. No byte is staged, and
// no rank touches another's slice, so the second step, after which all slices stand, is the only
// other wait.
void ShmTransport::all_reduce_in_arena(const CollectiveCall& call, const ArenaLocation& location) {
  const size_t element_bytes = size_bytes(call.dtype);
  const Slice slice = slice_of(call.count, element_bytes, rank(), size());
  std::vector<std::byte*> buffers(size());
  for (int r = 0; r < size(); ++r)
    buffers[r] =
        location.arena->parts[r].data() + call_of(r).arena_offset + slice.begin * element_bytes;
  const std::vector<const std::byte*> sources(buffers.begin(), buffers.end());
  tree_reduce(call.dtype, call.op, sources, buffers, slice.size());
  group_.wait_for_all(group_.advance());
}

void ShmTransport::all_reduce_staged(const CollectiveCall& call) {
  const size_t element_bytes = size_bytes(call.dtype);
  const size_t chunk = kSlotBytes / element_bytes;
  auto* data = static_cast<std::byte*>(call.out);
  const auto count_of = [&](size_t j) { return std::min(chunk, call.count - j * chunk); };
  const auto fill = [&](size_t j) {
    copy_bytes(slot(rank(), j), data + j * kSlotBytes, count_of(j) * element_bytes);
  };

  // Small: every rank reduces everything by itself.
  if (call.count * element_bytes <= kSmallBytes) {
    return drain_chunks(num_chunks_of(call.count, chunk), fill, [&](size_t j) {
      std::byte* destinations[] = {data + j * kSlotBytes};
      tree_reduce(call.dtype, call.op, slots_at(j, 0), destinations, count_of(j));
    });
  }
  // Otherwise each reduces its slice, into its own slot, where nobody else reads that slice's
  // input.
  drain_chunks(num_chunks_of(call.count, chunk), fill, [&](size_t j) {
    const Slice mine = slice_of(count_of(j), element_bytes, rank(), size());
    const size_t offset = mine.begin * element_bytes;
    std::byte* destinations[] = {slot(rank(), j) + offset, data + j * kSlotBytes + offset};
    tree_reduce(call.dtype, call.op, slots_at(j, offset), destinations, mine.size());
    group_.wait_for_all(group_.advance());
    for (int hop = 1; hop < size(); ++hop) {
      const int owner = (rank() + hop) % size();
      const Slice theirs = slice_of(count_of(j), element_bytes, owner, size());
      const size_t begin = theirs.begin * element_bytes;
      copy_bytes(data + j * kSlotBytes + begin, slot(owner, j) + begin,
                 theirs.size() * element_bytes);
    }
  });
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

std::unique_ptr<SharedBuffer> ShmTransport::allocate_shared(size_t bytes) {
  std::shared_ptr<Arena> arena;
  const ArenaPart part(bytes);
  std::vector<ArenaOffer> offers(size());
  // The offers travel by all_gather; the barrier keeps the descriptors open until all have mapped
  // them.
  run({Collective::kAllGather, &part.offer(), offers.data(), sizeof(ArenaOffer), DType::kUInt8,
       ReduceOp::kSum, 0});
  guarded([&] { arena = part.map(++last_arena_, rank(), offers); });
  run({});
  arenas_.add(arena);
  return make_shared_buffer(arena, bytes);
}

std::unique_ptr<Transport> ShmTransport::make_subgroup(const std::string& group,
                                                       const std::vector<int>& members) {
  const auto place = std::find(members.begin(), members.end(), rank());
  DST_ASSERT(place != members.end(), "rank ", rank(), " makes a group it is not in");
  return std::make_unique<ShmTransport>(group, static_cast<int>(place - members.begin()),
                                        static_cast<int>(members.size()), group_.timeout());
}

// A message travels through the sender's mailbox a piece at a time; each piece is written when the
// last has been taken.
void ShmTransport::send(std::span<const std::byte> bytes, int to) {
  guarded([&] {
    group_.set_current(sign_send(bytes.size(), to));
    Mailbox& mailbox = group_.layout().mailbox(rank());
    Counter& sent = group_.layout().sent(rank(), to);
    Counter& taken = group_.layout().taken(rank(), to);
    size_t offset = 0;
    do {
      const size_t piece = std::min(kMailBytes, bytes.size() - offset);
      mailbox.message_bytes = bytes.size();
      copy_bytes(mailbox.data, bytes.data() + offset, piece);
      offset += piece;
      ShmGroup::increment(sent);
      group_.wait_for(taken, sent.value.load(), to);
    } while (offset < bytes.size());
  });
}

void ShmTransport::recv(std::span<std::byte> bytes, int from) {
  guarded([&] {
    group_.set_current(sign_recv(bytes.size(), from));
    const Mailbox& mailbox = group_.layout().mailbox(from);
    Counter& sent = group_.layout().sent(from, rank());
    Counter& taken = group_.layout().taken(from, rank());
    size_t offset = 0;
    do {
      group_.wait_for(sent, taken.value.load() + 1, from);
      DST_CHECK(mailbox.message_bytes == bytes.size(), "recv of ", bytes.size(),
                " bytes from rank ", from, ", which sends ", mailbox.message_bytes,
                "; both must name the same size");
      const size_t piece = std::min(kMailBytes, bytes.size() - offset);
      copy_bytes(bytes.data() + offset, mailbox.data, piece);
      offset += piece;
      ShmGroup::increment(taken);
    } while (offset < bytes.size());
  });
}

}  // namespace deepseek_train::collectives
