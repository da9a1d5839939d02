// Files that are cut or altered, for the tests of whatever reads them.
#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <string_view>

#include "deepseek_train/core/error.h"

namespace deepseek_train::test_support {

// Calls check(cut) with every part of `whole` that begins where it begins and ends too early.
template <typename Check>
void for_every_cut(std::string_view whole, Check check) {
  for (size_t length = 0; length < whole.size(); ++length) check(whole.substr(0, length));
}

// Calls read(damaged) on `num_trials` copies of `whole` with one to three random bytes in random
// places: each must be read or refused with one of our errors. Returns how many were refused.
template <typename Read>
int refused_of_damaged(std::string_view whole, uint32_t seed, int num_trials, Read read) {
  std::mt19937 random(seed);
  int num_refused = 0;
  for (int i = 0; i < num_trials; ++i) {
    std::string damaged(whole);
    for (int change = 0; change < 1 + i % 3; ++change)
      damaged[random() % damaged.size()] = static_cast<char>(random());
    try {
      read(damaged);
    } catch (const Error&) {
      ++num_refused;
    }
  }
  return num_refused;
}

}  // namespace deepseek_train::test_support
