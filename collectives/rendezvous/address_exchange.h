// How ranks on different hosts learn each other's addresses.
#pragma once

#include <chrono>
#include <vector>

#include "collectives/transport/tcp/stream.h"
#include "deepseek_train/collectives/launch.h"

namespace deepseek_train::collectives {

// Every rank tells rank 0, which listens at launch.rendezvous_host:rendezvous_port, the port of its
// own listener, and gets back all ranks' endpoints. Connections are secured by `streams`; with TLS
// a rank must prove the number that it claims. Strangers (a port scanner, another job's rank) are
// turned away and logged. Throws Timeout naming the ranks that did not come and who was turned
// away, PermissionDenied if rank 0 is not who it should be or refuses this rank, InvalidArgument if
// two ranks claim one number or the sizes differ.
std::vector<Endpoint> exchange_addresses(const LaunchInfo& launch, int listener_port,
                                         Interfaces interfaces, std::chrono::milliseconds timeout,
                                         StreamFactory& streams);

// What a connection begins with, so that only ranks of one job talk to each other. Not a
// credential.
uint64_t job_key(const std::string& job_id);

}  // namespace deepseek_train::collectives
