// all_reduce: where the data lies, and how large it is, decide how.
#include <algorithm>

#include "collectives/algorithms/partition.h"
#include "collectives/algorithms/tree_reduce.h"
#include "collectives/transport/shm/copy_bytes.h"
#include "collectives/transport/shm/shm_transport_chunks.h"

namespace deepseek_train::collectives {
namespace {

// Up to here every rank reduces everything by itself: one step instead of two.
constexpr size_t kSmallBytes = 8 << 10;
// Read and reduced at a time, while hot in cache.
constexpr size_t kPieceBytes = 256 << 10;

using Clock = std::chrono::steady_clock;

size_t bytes_of(const CollectiveCall& call) { return call.count * size_bytes(call.dtype); }

}  // namespace

void ShmTransport::all_reduce(const CollectiveCall& call) {
  const size_t bytes = bytes_of(call);
  const ArenaLocation location = arenas_.find(call.out, bytes);
  const bool will_read = this->will_read(bytes);
  const auto start = is_tuned(bytes) ? Clock::now() : Clock::time_point();
  const auto stage = [&] {
    keep_input(call);
    if (!will_read) return stage_chunk(call, 0);
    const auto address = reinterpret_cast<uint64_t>(call.out);
    copy_bytes(slot(rank(), 0), &address, sizeof(address));
  };
  // Private data goes with the opening step; whether all ranks are in one arena is only known after
  // it.
  if (!location.arena) stage();
  open_call(call, location);
  const bool are_alike = await_same_call();
  if (location.arena && (are_alike || are_all_in_my_arena())) {
    choices_.note(bytes, 0, "in place in the arena: all ranks pass memory of allocate_shared");
    return all_reduce_in_arena(call, location);
  }
  if (!are_alike && is_any_in_an_arena()) {
    if (location.arena) stage();
    open_step_ = group_.advance();
  }
  if (is_tuned(bytes)) tuner_of(bytes).decide(group_);
  if (will_read) {
    choices_.note(bytes, 1, "private memory read from its owner",
                  is_tuned(bytes) ? ", by turns until the faster way is known" : "");
    all_reduce_by_reading(call);
  } else {
    choices_.note(bytes, 2, "private memory staged through slots",
                  is_tuned(bytes) ? ", by turns until the faster way is known"
                                  : ": too small to be read from its owner, or not permitted");
    all_reduce_staged(call);
  }
  if (is_tuned(bytes)) tuner_of(bytes).note(group_, bytes, Clock::now() - start);
  if (options_.recoverable) group_.wait_for_all(group_.advance());  // all have the whole result
  is_input_kept_ = false;
}

bool ShmTransport::is_tuned(size_t bytes) const {
  return peers_.is_permitted() && bytes >= options_.min_read_bytes &&
         options_.private_way == PrivateWay::kFastest;
}

bool ShmTransport::will_read(size_t bytes) const {
  if (!peers_.is_permitted() || bytes < options_.min_read_bytes) return false;
  return options_.private_way == PrivateWay::kRead ||
         tuners_[WayTuner::size_class_of(bytes)].will_read();
}

void ShmTransport::keep_input(const CollectiveCall& call) {
  if (!options_.recoverable) return;
  kept_input_.resize(std::max(kept_input_.size(), bytes_of(call)));
  copy_bytes(kept_input_.data(), call.in, bytes_of(call));
  is_input_kept_ = true;
}

bool ShmTransport::are_all_in_my_arena() const {
  for (int r = 0; r < size(); ++r)
    if (group_.call_of(r, sequence_).arena != signature_.arena) return false;
  return true;
}

bool ShmTransport::is_any_in_an_arena() const {
  for (int r = 0; r < size(); ++r)
    if (group_.call_of(r, sequence_).arena != 0) return true;
  return false;
}

// Each rank reduces its own slice of all buffers straight into all buffers. No byte is staged, and
// no rank touches another's slice, so the second step, after which all slices stand, is the only
// other wait.
void ShmTransport::all_reduce_in_arena(const CollectiveCall& call, const ArenaLocation& location) {
  reduce_slice_in_arena(call, location, sequence_, rank(), 0);
  group_.wait_for_all(group_.advance());
}

void ShmTransport::reduce_slice_in_arena(const CollectiveCall& call, const ArenaLocation& location,
                                         uint64_t sequence, int owner, uint32_t round) {
  const size_t element_bytes = size_bytes(call.dtype);
  const Slice slice = slice_of(call.count, element_bytes, owner, size());
  for (int r = 0; r < size(); ++r) {
    const uint64_t offset = are_alike_ ? location.offset : group_.call_of(r, sequence).arena_offset;
    buffers_[r] = location.part(r).data() + offset + slice.begin * element_bytes;
  }
  reduce_through_journal(group_.layout().journal(owner), sequence,
                         {call.dtype, call.op, buffers_, slice.size()}, group_, round,
                         options_.probe);
}

// The rank's own slice stays where it is; a small chunk goes whole, since every rank reduces it
// all.
void ShmTransport::stage_chunk(const CollectiveCall& call, size_t j) {
  const size_t element_bytes = size_bytes(call.dtype);
  const size_t begin = j * kSlotBytes;
  const size_t count = std::min(kSlotBytes, bytes_of(call) - begin) / element_bytes;
  const auto* data = static_cast<const std::byte*>(call.in) + begin;
  std::byte* to = slot(rank(), j);
  if (bytes_of(call) <= kSmallBytes) return copy_bytes(to, data, count * element_bytes);
  const Slice mine = slice_of(count, element_bytes, rank(), size());
  copy_bytes(to, data, mine.begin * element_bytes);
  copy_bytes(to + mine.end * element_bytes, data + mine.end * element_bytes,
             (count - mine.end) * element_bytes);
}

void ShmTransport::all_reduce_staged(const CollectiveCall& call) {
  const bool is_small = bytes_of(call) <= kSmallBytes;
  const size_t element_bytes = size_bytes(call.dtype);
  const size_t chunk = kSlotBytes / element_bytes;
  auto* data = static_cast<std::byte*>(call.out);
  const auto count_of = [&](size_t j) { return std::min(chunk, call.count - j * chunk); };
  const auto fill = [&](size_t j) { stage_chunk(call, j); };
  drain_chunks(num_chunks_of(call.count, chunk), fill, [&](size_t j) {
    std::byte* const here = data + j * kSlotBytes;
    // Each reduces its slice, also into its own slot, where nobody else reads that slice's input.
    const Slice mine =
        is_small ? Slice{0, count_of(j)} : slice_of(count_of(j), element_bytes, rank(), size());
    const size_t offset = mine.begin * element_bytes;
    slots_at(j, offset);
    sources_[rank()] = here + offset;
    std::byte* destinations[] = {here + offset, slot(rank(), j) + offset};
    tree_reduce(call.dtype, call.op, sources_, std::span(destinations).first(is_small ? 1 : 2),
                mine.size());
    if (is_small) return;
    group_.wait_for_all(group_.advance());
    for (int hop = 1; hop < size(); ++hop) {
      const int owner = (rank() + hop) % size();
      const Slice theirs = slice_of(count_of(j), element_bytes, owner, size());
      const size_t begin = theirs.begin * element_bytes;
      copy_bytes(here + begin, slot(owner, j) + begin, theirs.size() * element_bytes);
    }
  });
}

// Each reads its slice from all others, reduces it in its own buffer, and then reads the other
// slices' results from their owners.
void ShmTransport::all_reduce_by_reading(const CollectiveCall& call) {
  const size_t element_bytes = size_bytes(call.dtype);
  auto* data = static_cast<std::byte*>(call.out);
  std::vector<uint64_t> addresses(size());
  for (int r = 0; r < size(); ++r) copy_bytes(&addresses[r], slot(r, 0), sizeof(uint64_t));
  ++next_chunk_;
  scratch_.resize(std::max(scratch_.size(), kPieceBytes * size()));

  const Slice mine = slice_of(call.count, element_bytes, rank(), size());
  const size_t end = mine.end * element_bytes;
  for (size_t at = mine.begin * element_bytes; at < end; at += kPieceBytes) {
    const size_t bytes = std::min(kPieceBytes, end - at);
    for (int r = 0; r < size(); ++r) {
      std::byte* piece = scratch_.data() + r * kPieceBytes;
      sources_[r] = r == rank() ? data + at : piece;
      if (r != rank()) PeerMemory::read(group_, r, addresses[r] + at, {piece, bytes});
    }
    std::byte* destinations[] = {data + at};
    tree_reduce(call.dtype, call.op, sources_, destinations, bytes / element_bytes);
  }
  group_.wait_for_all(group_.advance());
  for (int hop = 1; hop < size(); ++hop) {
    const int owner = (rank() + hop) % size();
    const Slice theirs = slice_of(call.count, element_bytes, owner, size());
    const size_t begin = theirs.begin * element_bytes;
    PeerMemory::read(group_, owner, addresses[owner] + begin,
                     {data + begin, theirs.size() * element_bytes});
  }
  // Nobody may change its buffer before all have read it.
  group_.wait_for_all(group_.advance());
}

}  // namespace deepseek_train::collectives
