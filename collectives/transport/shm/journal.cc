#include "collectives/transport/shm/journal.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "collectives/algorithms/tree_reduce.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

// Some tens of microseconds.
constexpr size_t kBlocksPerLook = 32;

// The call's number (modulo 2^32) above twice the number of blocks done, plus one while the journal
// holds the next.
class Progress {
 public:
  explicit Progress(uint64_t sequence) : call_(sequence << 32) {}

  uint64_t marked(size_t block) const { return call_ | (2 * block + 1); }
  uint64_t done(size_t num_blocks) const { return call_ | (2 * num_blocks); }
  bool is_of_this_call(uint64_t value) const { return (value ^ call_) >> 32 == 0; }
  static size_t num_done(uint64_t value) { return (value & 0xffff'ffffu) / 2; }
  static bool is_marked(uint64_t value) { return value & 1; }

 private:
  uint64_t call_;
};

class JournaledSlice {
 public:
  JournaledSlice(Journal& journal, uint64_t sequence, const SliceReduction& slice,
                 JournalProbe probe)
      : journal_(journal),
        progress_(sequence),
        slice_(slice),
        probe_(probe),
        many_(slice.buffers.size() > kFewRanks ? slice.buffers.size() : 0),
        sources_(many_.empty() ? few_ : many_.data(), slice.buffers.size()) {}

  size_t num_blocks() const { return (slice_.count + block_count_ - 1) / block_count_; }

  // The first block that is not done; one that is only marked is copied now.
  size_t resume() {
    const uint64_t value = journal_.progress.load(std::memory_order_acquire);
    if (!progress_.is_of_this_call(value)) return 0;
    const size_t block = Progress::num_done(value);
    if (!Progress::is_marked(value)) return block;
    copy_out(block);
    return block + 1;
  }

  void run_block(size_t block) {
    std::byte* sums[] = {journal_.blocks[block % 2]};
    for (size_t r = 0; r < sources_.size(); ++r)
      sources_[r] = slice_.buffers[r] + block * block_bytes();
    tree_reduce(slice_.dtype, slice_.op, sources_, sums, count_of(block));
    mark(progress_.marked(block));
    copy_out(block);
  }

 private:
  size_t block_bytes() const { return block_count_ * element_bytes_; }
  size_t count_of(size_t block) const {
    return std::min(block_count_, slice_.count - block * block_count_);
  }
  size_t bytes_of(size_t block) const { return count_of(block) * element_bytes_; }

  void mark(uint64_t value) {
    if (probe_) probe_(value);
    journal_.progress.store(value, std::memory_order_release);
  }

  void copy_out(size_t block) {
    for (std::byte* buffer : slice_.buffers) {
      std::memcpy(buffer + block * block_bytes(), journal_.blocks[block % 2], bytes_of(block));
      if (probe_) probe_(progress_.marked(block));
    }
    mark(progress_.done(block + 1));
    // The block after the next overwrites these sums; its stores must not be seen before the mark.
    std::atomic_thread_fence(std::memory_order_release);
  }

  Journal& journal_;
  const Progress progress_;
  const SliceReduction& slice_;
  const JournalProbe probe_;
  const size_t element_bytes_ = size_bytes(slice_.dtype);
  const size_t block_count_ = kJournalBytes / element_bytes_;
  // No allocation for the usual number of ranks: a small call takes less than a microsecond.
  static constexpr size_t kFewRanks = 16;
  const std::byte* few_[kFewRanks];
  std::vector<const std::byte*> many_;
  const std::span<const std::byte*> sources_;
};

}  // namespace

void reduce_through_journal(Journal& journal, uint64_t sequence, const SliceReduction& slice,
                            ShmGroup& group, uint32_t round, JournalProbe probe) {
  JournaledSlice journaled(journal, sequence, slice, probe);
  group.check_round(round);
  for (size_t block = journaled.resume(); block < journaled.num_blocks(); ++block) {
    group.check_round(round);
    if (round == 0 && block % kBlocksPerLook == kBlocksPerLook - 1) group.look_around();
    journaled.run_block(block);
  }
}

}  // namespace deepseek_train::collectives
