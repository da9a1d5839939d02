// How ranks on different hosts learn each other's addresses.
#pragma once

#include <chrono>
#include <vector>

#include "collectives/transport/tcp/socket.h"
#include "deepseek_train/collectives/launch.h"

namespace deepseek_train::collectives {

// Every rank tells rank 0, which listens at launch.rendezvous_host:rendezvous_port, the port of its
// own listener, and gets back all ranks' endpoints. Strangers (a port scanner, another job's rank)
// are turned away and logged. Throws Timeout naming the ranks that did not come, InvalidArgument if
// two ranks claim one number or the sizes differ.
std::vector<Endpoint> exchange_addresses(const LaunchInfo& launch, int listener_port,
                                         Interfaces interfaces, std::chrono::milliseconds timeout);

// What a connection begins with, so that only ranks of one job talk to each other. Not a
// credential.
uint64_t job_key(const std::string& job_id);

}  // namespace deepseek_train::collectives
