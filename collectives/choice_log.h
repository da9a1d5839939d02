// DST_COLLECTIVES_TRACE=1: what was chosen, and why, once for every kind of choice.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>

#include "deepseek_train/core/log.h"

namespace deepseek_train::collectives {

// One thread at a time. Off, it costs one comparison.
class ChoiceLog {
 public:
  explicit ChoiceLog(bool is_on) : is_on_(is_on) {}

  // The size's power of two and the way taken make a choice; its text is built only when it is new.
  template <typename... Parts>
  void note(uint64_t bytes, int way, const Parts&... parts) {
    if (!is_on_) return;
    int power = 0;
    for (uint64_t rest = bytes; rest > 1; rest >>= 1) ++power;
    if (noted_.insert({power, way}).second) log_info("all_reduce of ", bytes, " bytes: ", parts...);
  }

 private:
  const bool is_on_;
  std::set<std::pair<int, int>> noted_;
};

}  // namespace deepseek_train::collectives
