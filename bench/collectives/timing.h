// How a collective is timed: buffers rewritten before every iteration, the slowest rank's time,
// medians of rounds.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "deepseek_train/collectives/communicator.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::bench {

// One way to reduce one buffer of float32, in place or not.
struct Contestant {
  std::string name;
  float* in;   // what is rewritten before every iteration
  float* out;  // where the result lies; in itself for most
  std::function<void(size_t count)> all_reduce;
};

inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

class Timer {
 public:
  // `seconds` of measuring per round. `referee` synchronises the ranks and finds the slowest.
  Timer(collectives::Communicator& referee, double seconds)
      : referee_(referee), seconds_(seconds) {}

  // Median seconds of one round, after the result has been checked. Collective. Throws Internal for
  // a wrong sum.
  double round(const Contestant& contestant, size_t bytes, bool has_result = true) {
    const size_t count = bytes / sizeof(float);
    if (has_result) verify(contestant, count);
    const double first = once(contestant, count);
    const int iterations = std::clamp(static_cast<int>(seconds_ / std::max(first, 1e-7)), 3, 5000);
    std::vector<double> times;
    for (int i = 0; i < iterations; ++i) times.push_back(once(contestant, count));
    return median(std::move(times));
  }

 private:
  // Numbers that differ by place and by rank, whose sums are exact.
  static float value(int rank, size_t i) { return static_cast<float>((i * 7) % 1013 + rank); }

  void verify(const Contestant& contestant, size_t count) {
    const int n = referee_.size();
    for (size_t i = 0; i < count; ++i) contestant.in[i] = value(referee_.rank(), i);
    referee_.barrier();
    contestant.all_reduce(count);
    for (size_t i = 0; i < count; ++i) {
      const float expected =
          static_cast<float>(n) * value(0, i) + static_cast<float>(n * (n - 1) / 2);
      if (contestant.out[i] != expected)
        throw Internal(concat(contestant.name, " gives ", contestant.out[i], " at place ", i,
                              " of ", count, ", wanted ", expected));
    }
    referee_.barrier();
  }

  double once(const Contestant& contestant, size_t count) {
    std::fill_n(contestant.in, count, 0.0f);
    referee_.barrier();
    const auto start = std::chrono::steady_clock::now();
    contestant.all_reduce(count);
    double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    referee_.all_reduce(std::span(&seconds, 1), collectives::ReduceOp::kMax);
    return seconds;
  }

  collectives::Communicator& referee_;
  const double seconds_;
};

}  // namespace deepseek_train::bench
