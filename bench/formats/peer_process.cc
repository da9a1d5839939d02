#include "bench/formats/peer_process.h"

#include <cstdio>
#include <memory>

#include "deepseek_train/core/error.h"

namespace deepseek_train::bench {

std::vector<std::pair<std::string, double>> load_with_python(const std::string& python,
                                                             const std::string& folder, int threads,
                                                             int repeats) {
  if (python.empty()) return {};
  const auto command = concat("'", python, "' '", DST_BENCH_SOURCES, "/load_safetensors.py' '",
                              folder, "' ", threads, " ", repeats);
  std::unique_ptr<FILE, int (*)(FILE*)> output(::popen(command.c_str(), "r"), ::pclose);
  DST_CHECK_AS(Unavailable, output, "cannot start ", command);
  std::vector<std::pair<std::string, double>> peers;
  char name[128];
  double seconds;
  while (std::fscanf(output.get(), "%127[^\t]\t%lf\n", name, &seconds) == 2)
    peers.emplace_back(name, seconds);
  DST_CHECK_AS(Unavailable, ::pclose(output.release()) == 0, "failed: ", command);
  return peers;
}

}  // namespace deepseek_train::bench
