// Which two tokens merge into which third, and how early: the learned table of byte-pair encoding.
#pragma once

#include <cstdint>
#include <vector>

namespace deepseek_train::text {

struct Merge {
  uint32_t rank = UINT32_MAX;  // the smaller, the earlier; UINT32_MAX: the pair does not merge
  int32_t result = -1;
};

// A hash table with open addressing: one probe answers most questions, and most answers are no.
// Thread-safe once filled.
class MergeTable {
 public:
  explicit MergeTable(size_t num_merges) {
    size_t capacity = 16;
    while (capacity < 2 * num_merges) capacity *= 2;
    slots_.resize(capacity);
  }

  // A pair given again takes the later rank, as in Hugging Face's library.
  void insert(int32_t left, int32_t right, Merge merge) {
    size_t i = find_slot(key_of(left, right));
    slots_[i] = {key_of(left, right), merge};
  }

  Merge find(int32_t left, int32_t right) const {
    return slots_[find_slot(key_of(left, right))].merge;
  }

 private:
  static constexpr uint64_t kEmpty = UINT64_MAX;
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };

  static uint64_t key_of(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }

  // The key's slot, or the empty one where it would go.
  size_t find_slot(uint64_t key) const {
    size_t mask = slots_.size() - 1;
    size_t i = (key * 0x9e3779b97f4a7c15u) >> 32 & mask;
    while (slots_[i].key != key && slots_[i].key != kEmpty) i = (i + 1) & mask;
    return i;
  }

  std::vector<Slot> slots_;
};

}  // namespace deepseek_train::text
