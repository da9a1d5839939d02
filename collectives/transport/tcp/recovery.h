// What is kept of an all_reduce so that survivors can finish it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "deepseek_train/collectives/collective_call.h"

namespace deepseek_train::collectives {

// A call is entered, then (an all_reduce that is kept) has its result, then has passed: every rank
// is known to have its result. The input is a copy until then, because the result is made in place.
class Recovery {
 public:
  struct Progress {
    uint64_t entered = 0;  // the last call's number
    uint64_t passed = 0;
    bool has_input = false;
    bool has_result = false;
  };

  void enter(uint64_t sequence) { progress_ = {sequence, progress_.passed, false, false}; }
  void keep_input(const CollectiveCall& call);
  void note_result() { progress_.has_result = true; }
  void pass() { progress_.passed = progress_.entered; }

  // Takes over another group's kept call, as this group's call number 1, already entered.
  void inherit(Recovery&& other, bool has_result);

  const Progress& progress() const { return progress_; }
  const CollectiveCall& call() const { return call_; }
  // Puts the input back where the all_reduce found it.
  void restore_input() const;

 private:
  Progress progress_;
  CollectiveCall call_;
  std::vector<std::byte> input_;
};

}  // namespace deepseek_train::collectives
