// Timing contenders in turn, so that a noisy moment of the machine hits all of them.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace deepseek_train::bench {

struct Contender {
  std::string name;
  std::function<void()> run;
  std::vector<double> microseconds;

  double median() const {
    std::vector<double> sorted = microseconds;
    std::nth_element(sorted.begin(), sorted.begin() + sorted.size() / 2, sorted.end());
    return sorted[sorted.size() / 2];
  }
};

inline double measure(const std::function<void()>& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
      .count();
}

// Runs each once to warm up, then `repeats` rounds of one run each.
inline void run_interleaved(std::vector<Contender>& contenders, int repeats) {
  for (Contender& contender : contenders) contender.run();
  for (int i = 0; i < repeats; ++i) {
    for (Contender& contender : contenders)
      contender.microseconds.push_back(measure(contender.run));
  }
}

// One JSON object on one line: the form all benches of the project print.
inline std::string json_line(const std::string& name, double value, const std::string& unit,
                             const std::string& peer, double peer_value, double ratio,
                             const std::string& config) {
  const auto number = [](double x) {
    std::string text = std::to_string(x);
    return text.substr(0, text.find('.') + 4);
  };
  return "{\"name\": \"" + name + "\", \"value\": " + number(value) + ", \"unit\": \"" + unit +
         "\", \"peer\": \"" + peer + "\", \"peer_value\": " + number(peer_value) +
         ", \"ratio\": " + number(ratio) + ", \"config\": " + config + "}";
}

// Of times in microseconds. ratio > 1: ours is better.
inline std::string json_line(const std::string& name, double value, const std::string& peer,
                             double peer_value, const std::string& config) {
  return json_line(name, value, "us", peer, peer_value, peer_value / value, config);
}

// Of rates in GB/s. ratio > 1: ours is better.
inline std::string json_rate_line(const std::string& name, double value, const std::string& peer,
                                  double peer_value, const std::string& config) {
  return json_line(name, value, "GB/s", peer, peer_value, value / peer_value, config);
}

}  // namespace deepseek_train::bench
