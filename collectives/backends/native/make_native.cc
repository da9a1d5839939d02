// Chooses the transport.
#include "collectives/backends/native/native_communicator.h"
#include "collectives/rendezvous/host_identity.h"
#include "collectives/transport/hierarchical/hierarchical_transport.h"
#include "collectives/transport/shm/shm_transport.h"
#include "collectives/transport/tcp/tcp_transport.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {

std::unique_ptr<Transport> make_transport(const CommunicatorOptions& options) {
  const LaunchInfo& launch = options.launch;
  const bool is_one_host = launch.local_size == launch.size;
  if (options.transport == "tcp") return make_tcp_transport(options);
  if (options.transport == "hierarchical" || (options.transport == "auto" && !is_one_host))
    return make_hierarchical_transport(options, this_host().memory_key);
  DST_CHECK(options.transport == "auto" || options.transport == "shm", "unknown transport \"",
            options.transport, "\"; wanted auto, shm, tcp or hierarchical");
  DST_CHECK(is_one_host, "transport shm needs all ranks on one host; here are ", launch.local_size,
            " of ", launch.size);
  DST_CHECK(options.algorithm == "auto" || options.algorithm == "tree",
            "transport shm sums in tree order only, not ", options.algorithm,
            "; choose auto, or transport tcp");
  return std::make_unique<ShmTransport>(
      ShmTransportOptions{.group = launch.job_id,
                          .rank = launch.rank,
                          .size = launch.size,
                          .timeout = options.timeout,
                          .recoverable = options.recoverable,
                          .traces_choices = launch.traces_choices});
}

std::unique_ptr<Communicator> make_native_communicator(const CommunicatorOptions& options) {
  return std::make_unique<NativeCommunicator>(make_transport(options), options.launch.job_id,
                                              options);
}

}  // namespace deepseek_train::collectives
