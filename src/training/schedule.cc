#include "deepseek_train/training/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace deepseek_train::training {

double CosineSchedule::at(int64_t step) const {
  if (step < warmup_steps)
    return peak * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  const auto span = static_cast<double>(std::max<int64_t>(decay_steps - warmup_steps, 1));
  const double progress = std::min(1.0, static_cast<double>(step - warmup_steps) / span);
  const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  return peak * (final_ratio + (1.0 - final_ratio) * cosine);
}

}  // namespace deepseek_train::training
