// Full personalised exchange through the slots.
//
// A slot begins with its owner's row of part sizes; the rest is shared evenly by the rank's
// non-empty parts for others, so whoever reads it finds its share from the row. The longest part of
// all, in shares, is the number of rounds. A small exchange needs no step but the opening one.
#include <algorithm>

#include "collectives/transport/shm/copy_bytes.h"
#include "collectives/transport/shm/shm_transport_chunks.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

// One sender's row: what it has for each rank, in bytes.
class PartSizes {
 public:
  PartSizes(const std::byte* slot, int sender, int size)
      : row_(reinterpret_cast<const uint64_t*>(slot), size), sender_(sender) {
    size_t num_parts = 0;
    for (int r = 0; r < size; ++r) num_parts += is_sent(r);
    const size_t room = (kSlotBytes - header_bytes(size)) / std::max<size_t>(1, num_parts);
    share_ = room / kLine * kLine;
  }

  static size_t header_bytes(int size) {
    return (size * sizeof(uint64_t) + kLine - 1) / kLine * kLine;
  }
  uint64_t operator[](int to) const { return row_[to]; }
  // Where in the slot the share for `to` begins.
  size_t offset_of(int to) const {
    size_t offset = header_bytes(static_cast<int>(row_.size()));
    for (int r = 0; r < to; ++r) offset += is_sent(r) ? share_ : 0;
    return offset;
  }
  size_t num_rounds() const {
    size_t longest = 0;
    for (int r = 0; r < static_cast<int>(row_.size()); ++r)
      longest = std::max<size_t>(longest, is_sent(r) ? row_[r] : 0);
    return num_chunks_of(longest, share_);
  }
  // The stretch of the part for `to` that travels in a round.
  size_t begin_of(size_t round) const { return round * share_; }
  size_t bytes_of(int to, size_t round) const {
    return std::min<size_t>(share_, row_[to] - std::min<size_t>(row_[to], begin_of(round)));
  }

 private:
  static constexpr size_t kLine = 64;
  bool is_sent(int to) const { return to != sender_ && row_[to] != 0; }

  std::span<const uint64_t> row_;
  int sender_;
  size_t share_ = 0;
};

}  // namespace

void ShmTransport::exchange_parts(const CollectiveCall& call, OutgoingParts out, IncomingParts in) {
  DST_CHECK(out[rank()].size() == in[rank()].size(), group_.name_rank(rank()), " sends ",
            out[rank()].size(), " bytes to itself and wants ", in[rank()].size(),
            "; both must be the same");
  DST_CHECK_AS(Internal, PartSizes::header_bytes(size()) <= kSlotBytes / 2, "exchange of ", size(),
               " ranks does not fit a slot");
  const size_t first_chunk = next_chunk_;
  std::vector<uint64_t> row;
  for (const auto& part : out) row.push_back(part.size());
  const PartSizes mine(reinterpret_cast<const std::byte*>(row.data()), rank(), size());
  // Rounds beyond this rank's own parts have nothing to fill.
  const auto fill = [&](size_t round) {
    std::byte* to = group_.layout().slot(rank(), first_chunk + round);
    if (round == 0) copy_bytes(to, row.data(), row.size() * sizeof(uint64_t));
    for (int r = 0; r < size(); ++r) {
      if (r == rank() || mine.bytes_of(r, round) == 0) continue;
      copy_bytes(to + mine.offset_of(r), out[r].data() + mine.begin_of(round),
                 mine.bytes_of(r, round));
    }
  };
  fill(0);
  open_call(call, {});
  await_same_call();
  copy_bytes(in[rank()].data(), out[rank()].data(), out[rank()].size());

  // The rows are copied: a later round overwrites them.
  std::vector<uint64_t> rows(static_cast<size_t>(size()) * size());
  std::vector<PartSizes> theirs;
  size_t num_rounds = 1;
  for (int r = 0; r < size(); ++r) {
    uint64_t* copy = rows.data() + static_cast<size_t>(r) * size();
    copy_bytes(copy, slot(r, 0), size() * sizeof(uint64_t));
    theirs.emplace_back(reinterpret_cast<const std::byte*>(copy), r, size());
    num_rounds = std::max(num_rounds, theirs.back().num_rounds());
    DST_CHECK(theirs[r][rank()] == in[r].size(), group_.name_rank(r), " sends ", theirs[r][rank()],
              " bytes to ", group_.name_rank(rank()), ", which wants ", in[r].size(), " in ",
              describe(signature_), "; both must name the same size");
  }
  drain_chunks(num_rounds, fill, [&](size_t round) {
    for (int hop = 1; hop < size(); ++hop) {
      const int from = (rank() + hop) % size();
      const size_t bytes = theirs[from].bytes_of(rank(), round);
      if (bytes != 0)
        copy_bytes(in[from].data() + theirs[from].begin_of(round),
                   slot(from, round) + theirs[from].offset_of(rank()), bytes);
    }
  });
}

}  // namespace deepseek_train::collectives
