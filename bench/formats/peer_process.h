// The safetensors package, timed in a process of its own on the same files.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace deepseek_train::bench {

// (name, median seconds) of each way to load the folder; none if `python` is empty.
std::vector<std::pair<std::string, double>> load_with_python(const std::string& python,
                                                             const std::string& folder, int threads,
                                                             int repeats);

}  // namespace deepseek_train::bench
