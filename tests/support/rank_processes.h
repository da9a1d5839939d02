// n ranks as n processes, for tests in which ranks are killed or frozen.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::test_support {

struct ProcessOutcome {
  int64_t pid = 0;
  // What the rank's body returned, or its error as "Timeout: text"; empty if it was killed.
  std::string report;
  int signal = 0;  // that ended it
  std::chrono::milliseconds elapsed{0};
};

using ProcessBody = std::function<std::string(collectives::Communicator& communicator)>;

// Forks one process per rank, runs the body in each and waits for all. A rank that stops itself
// (SIGSTOP) is killed once all others have ended; all are killed at the limit. The calling process
// must have no other thread.
std::vector<ProcessOutcome> run_rank_processes(
    int size, const ProcessBody& body, collectives::CommunicatorOptions options,
    std::chrono::seconds limit = std::chrono::seconds(30));

}  // namespace deepseek_train::test_support
