// What lies in a group's shared segment.
//
//   SegmentHeader | RankBlock[size] | Mailbox[size] | Counter sent[size][size] | Counter
//   taken[size][size] | slots
//
// Every word has one writer (the rank it belongs to), save the abort record and the sleeper counts.
// Slots are kNumSlots staging areas per rank.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "collectives/transport/call_signature.h"
#include "collectives/transport/shm/process_id.h"

namespace deepseek_train::collectives {

inline constexpr uint64_t kSegmentMagic = 0x3130'4d48'5354'5344;  // "DSTSHM01"
inline constexpr size_t kSlotBytes = 256 << 10;
inline constexpr size_t kMailBytes = 64 << 10;
// Four: a rank that fills chunk c + 1 knows that all have announced chunk c - 1, which each does
// one chunk ahead, just before it reads chunk c - 2; so chunk c - 3 is the last that surely
// everybody has read.
inline constexpr size_t kNumSlots = 4;

// A number that only grows (modulo 2^32), with those who sleep until it does.
struct alignas(64) Counter {
  std::atomic<uint32_t> value;
  std::atomic<uint32_t> num_sleepers;
};

enum class AbortState : uint32_t { kNone, kWriting, kSet };

struct alignas(64) SegmentHeader {
  std::atomic<uint64_t> magic;  // written last, when the rest stands
  uint32_t size;
  uint64_t total_bytes;
  ProcessId creator;
  std::atomic<uint32_t> all_attached;
  alignas(64) std::atomic<AbortState> abort_state;
  int32_t abort_rank;
  char abort_reason[2048];
};

enum class Presence : uint32_t { kAbsent, kJoining, kAttached, kClosed };

struct alignas(64) RankBlock {
  std::atomic<Presence> presence;
  ProcessId process;
  Counter step;
  // Of the current and the previous call: a rank may be one call ahead of one that still compares.
  alignas(64) CallSignature calls[2];
};

// One sender's outgoing message, a piece at a time.
struct alignas(64) Mailbox {
  uint64_t message_bytes;
  alignas(64) std::byte data[kMailBytes];
};

// Addresses in one process's mapping of the segment.
class SegmentLayout {
 public:
  SegmentLayout(std::byte* base, int size) : base_(base), size_(size) {}

  SegmentHeader& header() const { return *reinterpret_cast<SegmentHeader*>(base_); }
  RankBlock& rank(int r) const { return reinterpret_cast<RankBlock*>(base_ + ranks_offset())[r]; }
  Mailbox& mailbox(int from) const {
    return reinterpret_cast<Mailbox*>(base_ + mail_offset(size_))[from];
  }
  // Pieces of messages put into `from`'s mailbox for `to`, and taken out by it.
  Counter& sent(int from, int to) const { return counters()[from * size_ + to]; }
  Counter& taken(int from, int to) const { return counters()[size_ * size_ + from * size_ + to]; }
  std::byte* slot(int r, uint64_t chunk) const {
    return base_ + slots_offset(size_) + (r * kNumSlots + chunk % kNumSlots) * kSlotBytes;
  }

  static size_t total_bytes(int size) {
    return slots_offset(size) + size_t{kNumSlots} * kSlotBytes * size;
  }

 private:
  static size_t ranks_offset() { return sizeof(SegmentHeader); }
  static size_t mail_offset(int size) { return ranks_offset() + sizeof(RankBlock) * size; }
  static size_t counters_offset(int size) { return mail_offset(size) + sizeof(Mailbox) * size; }
  static size_t slots_offset(int size) {
    const size_t end = counters_offset(size) + 2 * sizeof(Counter) * size * size;
    return (end + 4095) / 4096 * 4096;
  }
  Counter* counters() const { return reinterpret_cast<Counter*>(base_ + counters_offset(size_)); }

  std::byte* base_;
  int size_;
};

}  // namespace deepseek_train::collectives
