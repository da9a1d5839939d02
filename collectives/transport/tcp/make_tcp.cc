// Joining a launch over TCP.
#include <numeric>

#include "collectives/rendezvous/address_exchange.h"
#include "collectives/transport/tcp/cost_cache.h"
#include "collectives/transport/tcp/link_probe.h"
#include "collectives/transport/tcp/tcp_transport.h"
#include "collectives/transport/tls/make_tls.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"

namespace deepseek_train::collectives {
namespace {

// With credentials every byte is authenticated, so a listener may be reached from anywhere; where
// the rendezvous is on loopback, all ranks are.
Interfaces choose_interfaces(const CommunicatorOptions& options) {
  const LaunchInfo& launch = options.launch;
  if (options.identity.credentials)
    return is_loopback(launch.rendezvous_host) ? Interfaces::kLoopback : Interfaces::kAll;
  if (options.insecure_network) {
    if (launch.rank == 0)
      log_warning(
          "insecure_network: gradients and weights travel unencrypted, and anybody who reaches the "
          "ports can join; use it only inside a closed network");
    return Interfaces::kAll;
  }
  DST_CHECK_AS(PermissionDenied, is_loopback(launch.rendezvous_host), "the rendezvous ",
               launch.rendezvous_host,
               " is another host, and without credentials only loopback is used; give "
               "CommunicatorOptions::identity, or set insecure_network: true if the network "
               "between the hosts is closed to others");
  return Interfaces::kLoopback;
}

bool is_one_host(const LaunchInfo& launch) { return launch.local_size == launch.size; }

Algorithm choose_algorithm(const CommunicatorOptions& options, bool is_16_bit) {
  if (options.algorithm == "tree") return Algorithm::kTree;
  if (options.algorithm == "ring") return Algorithm::kRing;
  DST_CHECK(options.algorithm == "auto", "unknown algorithm \"", options.algorithm,
            "\"; wanted auto, tree or ring");
  return is_one_host(options.launch) || is_16_bit ? Algorithm::kTree : Algorithm::kAny;
}

std::shared_ptr<StreamFactory> make_streams(const CommunicatorOptions& options) {
  if (!options.identity.credentials) return make_plain_streams();
  return make_tls_streams(
      {.identity = options.identity, .rank = options.launch.rank, .size = options.launch.size});
}

}  // namespace

std::unique_ptr<TcpTransport> make_tcp_transport(const CommunicatorOptions& options) {
  const LaunchInfo& launch = options.launch;
  DST_CHECK(!launch.rendezvous_host.empty() && launch.rendezvous_port > 0,
            "ranks on several hosts need a meeting point; set MASTER_ADDR to rank 0's host and "
            "MASTER_PORT to a free port there "
            "(mpirun -x MASTER_ADDR=... -x MASTER_PORT=...)");
  TcpTransportOptions transport_options{.interfaces = choose_interfaces(options),
                                        .algorithm = choose_algorithm(options, false),
                                        .algorithm_16_bit = choose_algorithm(options, true),
                                        .is_recoverable = options.recoverable,
                                        .traces_choices = launch.traces_choices};
  const UniqueFd listener = listen_on(transport_options.interfaces, 0);
  MeshOptions mesh{.rank = launch.rank,
                   .launch_ranks = std::vector<int>(launch.size),
                   .key = job_key(launch.job_id),
                   .timeout = options.timeout,
                   .streams = make_streams(options)};
  std::iota(mesh.launch_ranks.begin(), mesh.launch_ranks.end(), 0);
  mesh.endpoints = exchange_addresses(launch, port_of(listener), transport_options.interfaces,
                                      options.timeout, *mesh.streams);
  auto connected = std::make_unique<TcpMesh>(mesh, listener);
  if (options.algorithm != "ring" || !is_one_host(launch)) {
    CostCache cache(posix_env(), launch.cache_folder);
    const MakeMesh make_mesh = [&](int num_streams) {
      MeshOptions wide = mesh;
      wide.num_streams = num_streams;
      wide.key = job_key(concat(launch.job_id, "/streams.", num_streams));
      return std::make_unique<TcpMesh>(std::move(wide), listener);
    };
    transport_options.costs = agree_on_link_costs(
        connected, cache, is_one_host(launch) || launch.size == 1 ? MakeMesh() : make_mesh);
  }
  return std::make_unique<TcpTransport>(std::move(connected), transport_options);
}

}  // namespace deepseek_train::collectives
