// Link costs of earlier runs.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "collectives/transport/tcp/link_costs.h"
#include "deepseek_train/core/env.h"

namespace deepseek_train::collectives {

// One small text file a group in a folder. What is missing, damaged, of another format or older
// than a week is not there. A folder that cannot be written to costs a probe at every start, and a
// log line. An empty folder name: nothing is kept.
class CostCache {
 public:
  using Clock = std::chrono::system_clock;

  // `env` must outlive the cache.
  CostCache(Env& env, std::string folder) : env_(env), folder_(std::move(folder)) {}

  // `group` says which links: transport, ranks, hosts; one line.
  std::optional<LinkCosts> load(const std::string& group, Clock::time_point now = Clock::now());
  void store(const std::string& group, const LinkCosts& costs,
             Clock::time_point now = Clock::now()) noexcept;
  std::string path_of(const std::string& group) const;

 private:
  Env& env_;
  const std::string folder_;
};

}  // namespace deepseek_train::collectives
