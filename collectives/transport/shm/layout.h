// What lies in a group's shared segment.
//
//   SegmentHeader | RankBlock[size] | Mailbox[size] | Counter sent[size][size] | Counter
//   taken[size][size] | Journal[size] | slots
//
// Every word has one writer (the rank it belongs to), save the abort record, the sleeper counts,
// and what a shrink decides. Slots are kNumSlots staging areas per rank.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "collectives/transport/call_signature.h"
#include "collectives/transport/shm/process_id.h"
#include "collectives/transport/shm/shared_signature.h"

namespace deepseek_train::collectives {

inline constexpr uint64_t kSegmentMagic = 0x3230'4d48'5354'5344;  // "DSTSHM02"
inline constexpr size_t kSlotBytes = 256 << 10;
inline constexpr size_t kMailBytes = 64 << 10;
// Two of them, the sources and the destinations of a block fit the second-level cache.
inline constexpr size_t kJournalBytes = 8 << 10;
// Four: a rank that fills chunk c + 1 knows that all have announced chunk c - 1, which each does
// one chunk ahead, just before it reads chunk c - 2; so chunk c - 3 is the last that surely
// everybody has read.
inline constexpr size_t kNumSlots = 4;

// Of large private buffers; see way_tuner.h.
inline constexpr int kNumSizeClasses = 2;

// A number that only grows (modulo 2^32), with those who sleep until it does.
struct alignas(64) Counter {
  // The number below, above it what its owner has to say with it: of a rank's step a digest of the
  // call it is in. One word, so that a waiter who takes the line away between two stores cannot
  // double the time of a step.
  std::atomic<uint64_t> word;
  // On a line of its own: the owner reads it after every step, just when a waiter takes the first.
  alignas(64) std::atomic<uint32_t> num_sleepers;

  uint32_t value() const { return static_cast<uint32_t>(word.load(std::memory_order_seq_cst)); }
  uint32_t digest() const {
    return static_cast<uint32_t>(word.load(std::memory_order_relaxed) >> 32);
  }
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
  // A shrink: (round << 32) | (1 + the rank that decides it), then the last round decided.
  alignas(64) std::atomic<uint64_t> scribe;
  std::atomic<uint32_t> sealed_round;
  // Decided with it: whether every rank had entered the call that its members were in.
  uint32_t was_entered_by_all;
};

enum class Presence : uint32_t { kAbsent, kJoining, kAttached, kClosed };

enum class Doing : uint32_t { kNothingYet, kBetweenCalls, kInCall, kInMessage };

// What a rank brings to a shrink: the call that failed under it, and how far it had come.
struct Departure {
  std::atomic<uint32_t> round;           // in which it takes part; 0: it has not come
  std::atomic<uint32_t> finished_round;  // its part in that round's work is done
  uint64_t num_completed;                // calls that ended well
  uint64_t pending;                      // sequence of the call that failed; 0: none
  uint32_t open_step;                    // that opened it
  uint32_t last_arena;
  uint32_t has_entered;
  uint32_t is_input_kept;
  uint32_t
      may_redo;  // the buffer of that call surely lives: in an arena, or `recoverable` demands it
  int32_t new_rank;  // decided by the scribe; -1: counted as lost
  CallSignature signature;
};

struct alignas(64) RankBlock {
  std::atomic<Presence> presence;
  ProcessId process;
  Counter step;
  // For reports: nobody reads these lines while all goes well.
  alignas(64) std::atomic<Doing> doing;
  std::atomic<uint64_t> sequence;        // of the last call opened
  std::atomic<int64_t> asleep_since_ns;  // steady clock; 0: not asleep
  // Of the current and the previous call: a rank may be one call ahead of one that still compares.
  SharedSignature calls[2];
  SharedSignature message;
  std::atomic<uint64_t> way_times[kNumSizeClasses][2];  // see way_tuner.h
  Departure departure;
};

// The sums of a rank's slice on their way to all buffers: see journal.h.
struct alignas(64) Journal {
  std::atomic<uint64_t> progress;
  alignas(64) std::byte blocks[2][kJournalBytes];
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
  Journal& journal(int r) const {
    return reinterpret_cast<Journal*>(base_ + journals_offset(size_))[r];
  }
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
  static size_t journals_offset(int size) {
    return counters_offset(size) + 2 * sizeof(Counter) * size * size;
  }
  static size_t slots_offset(int size) {
    const size_t end = journals_offset(size) + sizeof(Journal) * size;
    return (end + 4095) / 4096 * 4096;
  }
  Counter* counters() const { return reinterpret_cast<Counter*>(base_ + counters_offset(size_)); }

  std::byte* base_;
  int size_;
};

}  // namespace deepseek_train::collectives
