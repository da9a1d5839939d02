#include "collectives/transport/shm/way_tuner.h"

#include <algorithm>

namespace deepseek_train::collectives {

void WayTuner::note(ShmGroup& group, size_t bytes, std::chrono::nanoseconds elapsed) {
  if (num_calls_ >= kTrials) return;
  const double time = static_cast<double>(elapsed.count()) / (static_cast<double>(bytes) / 1024);
  double& best = best_[num_calls_ % 2];
  best = num_calls_ < 2 ? time : std::min(best, time);
  if (++num_calls_ < kTrials) return;
  RankBlock& mine = group.layout().rank(group.rank());
  for (int way : {0, 1})
    mine.way_times[size_class_][way].store(static_cast<uint64_t>(best_[way] * 1024),
                                           std::memory_order_relaxed);
}

void WayTuner::decide(const ShmGroup& group) {
  if (has_decided_ || num_calls_ < kTrials) return;
  uint64_t sums[2] = {0, 0};
  for (int r = 0; r < group.size(); ++r) {
    for (int way : {0, 1})
      sums[way] +=
          group.layout().rank(r).way_times[size_class_][way].load(std::memory_order_relaxed);
  }
  is_reading_ = sums[1] < sums[0];
  has_decided_ = true;
}

}  // namespace deepseek_train::collectives
