// Ids of words that came before, shared by all threads that use a tokenizer.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace deepseek_train::text {

// A table of fixed size in which a new word takes the place of the one that was there. Thread-safe:
// each slot is locked while it is read or written, and whoever finds it locked goes without. 2 MiB.
class WordCache {
 public:
  static constexpr size_t kMaxBytes = 28;
  static constexpr size_t kMaxIds = 8;

  // Appends the word's ids if it is known. The word must not be longer than kMaxBytes.
  bool find(std::string_view word, std::vector<int32_t>& ids) {
    Slot& slot = slot_of(word);
    if (slot.busy.test_and_set(std::memory_order_acquire)) return false;
    const bool known =
        slot.num_bytes == word.size() && std::memcmp(slot.bytes, word.data(), word.size()) == 0;
    if (known) ids.insert(ids.end(), slot.ids, slot.ids + slot.num_ids);
    slot.busy.clear(std::memory_order_release);
    return known;
  }

  // Longer results than kMaxIds are not kept.
  void insert(std::string_view word, std::span<const int32_t> ids) {
    if (ids.size() > kMaxIds) return;
    Slot& slot = slot_of(word);
    if (slot.busy.test_and_set(std::memory_order_acquire)) return;
    std::memcpy(slot.bytes, word.data(), word.size());
    std::memcpy(slot.ids, ids.data(), ids.size_bytes());
    slot.num_bytes = static_cast<uint8_t>(word.size());
    slot.num_ids = static_cast<uint8_t>(ids.size());
    slot.busy.clear(std::memory_order_release);
  }

 private:
  static constexpr size_t kNumSlots = size_t{1} << 15;
  // One line of the processor's cache.
  struct alignas(64) Slot {
    std::atomic_flag busy;
    uint8_t num_bytes = 0;  // 0: empty; no word is
    uint8_t num_ids = 0;
    char bytes[kMaxBytes];
    int32_t ids[kMaxIds];
  };

  Slot& slot_of(std::string_view word) {
    return slots_[std::hash<std::string_view>()(word) & (kNumSlots - 1)];
  }

  std::unique_ptr<Slot[]> slots_ = std::make_unique<Slot[]>(kNumSlots);
};

}  // namespace deepseek_train::text
