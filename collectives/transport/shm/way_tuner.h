// Staged or read directly: which is faster for large private buffers, found out while working.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "collectives/transport/shm/group.h"

namespace deepseek_train::collectives {

// The first large calls take turns; then every rank shows its two best times, and from the next but
// one call on all go the way whose times are the smaller sum. All ranks see the same calls and the
// same times, so they decide alike. Neither way changes a bit of a result.
class WayTuner {
 public:
  // Sizes in the caches' reach and beyond are decided for themselves.
  static int size_class_of(size_t bytes) { return bytes < size_t{16} << 20 ? 0 : 1; }
  explicit WayTuner(int size_class) : size_class_(size_class) {}

  bool will_read() const { return num_calls_ < kTrials ? num_calls_ % 2 == 1 : is_reading_; }
  // After a large private call: its time, on this rank.
  void note(ShmGroup& group, size_t bytes, std::chrono::nanoseconds elapsed);
  // Once a large private call is open: what the others have shown is visible.
  void decide(const ShmGroup& group);

 private:
  static constexpr int kTrials = 6;
  int size_class_;
  int num_calls_ = 0;
  bool has_decided_ = false;
  bool is_reading_ = false;
  double best_[2] = {0, 0};  // ns per KiB: staged, read
};

}  // namespace deepseek_train::collectives
