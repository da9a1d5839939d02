// Joining a launch over TCP.
#include "collectives/rendezvous/address_exchange.h"
#include "collectives/transport/tcp/tcp_transport.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"

namespace deepseek_train::collectives {
namespace {

Interfaces choose_interfaces(const CommunicatorOptions& options) {
  const LaunchInfo& launch = options.launch;
  if (options.insecure_network) {
    if (launch.rank == 0)
      log_warning(
          "insecure_network: gradients and weights travel unencrypted, and anybody who reaches the "
          "ports can join; "
          "use it only inside a closed network");
    return Interfaces::kAll;
  }
  DST_CHECK_AS(PermissionDenied, is_loopback(launch.rendezvous_host), "the rendezvous ",
               launch.rendezvous_host,
               " is another host, and without credentials only loopback is used; set "
               "insecure_network: true if the network "
               "between the hosts is closed to others");
  return Interfaces::kLoopback;
}

Algorithm choose_algorithm(const CommunicatorOptions& options, bool is_16_bit) {
  if (options.algorithm == "tree") return Algorithm::kTree;
  if (options.algorithm == "ring") return Algorithm::kRing;
  DST_CHECK(options.algorithm == "auto", "unknown algorithm \"", options.algorithm,
            "\"; wanted auto, tree or ring");
  const bool is_one_host = options.launch.local_size == options.launch.size;
  return is_one_host || is_16_bit ? Algorithm::kTree : Algorithm::kRing;
}

}  // namespace

std::unique_ptr<Transport> make_tcp_transport(const CommunicatorOptions& options) {
  const LaunchInfo& launch = options.launch;
  DST_CHECK(!launch.rendezvous_host.empty() && launch.rendezvous_port > 0,
            "ranks on several hosts need a meeting point; set MASTER_ADDR to rank 0's host and "
            "MASTER_PORT to a free port there "
            "(mpirun -x MASTER_ADDR=... -x MASTER_PORT=...)");
  const TcpTransportOptions transport_options{.interfaces = choose_interfaces(options),
                                              .algorithm = choose_algorithm(options, false),
                                              .algorithm_16_bit = choose_algorithm(options, true)};
  const UniqueFd listener = listen_on(transport_options.interfaces, 0);
  MeshOptions mesh{.rank = launch.rank, .key = job_key(launch.job_id), .timeout = options.timeout};
  mesh.endpoints =
      exchange_addresses(launch, port_of(listener), transport_options.interfaces, options.timeout);
  return std::make_unique<TcpTransport>(std::make_unique<TcpMesh>(std::move(mesh), listener),
                                        transport_options);
}

}  // namespace deepseek_train::collectives
