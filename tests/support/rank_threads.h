// n ranks as n threads of the test, each with its own communicator.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::test_support {

// A job id that nobody else uses.
std::string unique_job_id();

// A loopback port that was free a moment ago.
int free_port();

// Launch info of one rank, as if all ranks ran on this host.
collectives::LaunchInfo launch_info(int rank, int size, const std::string& job_id);

using RankBody = std::function<void(collectives::Communicator& communicator)>;

// Runs body(communicator) as ranks 0 .. size-1 and returns when all have ended. `options` gives
// everything but the launch; for transport "tcp" a free port is chosen. Rethrows the error of the
// rank that failed first, not its peers' PeerFailure.
void run_ranks(int size, const RankBody& body, collectives::CommunicatorOptions options = {});

// As run_ranks, but hands back each rank's error: "" for none, else "Timeout: text" and so on.
std::vector<std::string> errors_of_ranks(int size, const RankBody& body,
                                         collectives::CommunicatorOptions options = {});

// "Timeout: text" for the exception now being handled.
std::string current_error();

}  // namespace deepseek_train::test_support
