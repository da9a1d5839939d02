// Learning rates over a run.
#pragma once

#include <cstdint>

namespace deepseek_train::training {

// Linear warm-up, then a cosine down to `final_ratio` of the peak at `decay_steps`, then constant:
// the steps after it (quantization-aware ones) run at the low rate. Loshchilov & Hutter 2016, arXiv
// 1608.03983.
struct CosineSchedule {
  double peak = 1e-4;
  double final_ratio = 0.1;
  int64_t warmup_steps = 0;
  int64_t decay_steps = 1;

  // The rate of step 0, 1, ...: warm-up never begins at zero.
  double at(int64_t step) const;
};

}  // namespace deepseek_train::training
