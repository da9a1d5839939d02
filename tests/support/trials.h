// How often a test on random input repeats itself.
#pragma once

#include <cstdlib>

namespace deepseek_train::test_support {

// The short form in every run, the long one where DST_LONG_TESTS is set (tests/run.sh --all).
inline int num_trials(int short_form, int long_form) {
  static const bool is_long = std::getenv("DST_LONG_TESTS") != nullptr;
  return is_long ? long_form : short_form;
}

}  // namespace deepseek_train::test_support
