#include "collectives/backends/mpi/mpi_communicator.h"
#include "collectives/backends/native/native_communicator.h"
#include "deepseek_train/collectives/nccl.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

void check(const CommunicatorOptions& options) {
  const LaunchInfo& launch = options.launch;
  DST_CHECK(launch.size >= 1 && launch.rank >= 0 && launch.rank < launch.size, "rank ", launch.rank,
            " of ", launch.size, " ranks; wanted 0 <= rank < size");
  DST_CHECK(launch.local_size >= 1 && launch.local_rank >= 0 &&
                launch.local_rank < launch.local_size && launch.local_size <= launch.size,
            "local rank ", launch.local_rank, " of ", launch.local_size, " on this host, of ",
            launch.size, " in all; wanted 0 <= local_rank < local_size <= size");
  DST_CHECK(options.timeout.count() > 0, "timeout of ", options.timeout.count(),
            " ms; wanted more than 0");
}

}  // namespace

std::unique_ptr<Communicator> make_communicator(const CommunicatorOptions& options) {
  check(options);
  if (options.backend == "native") return make_native_communicator(options);
  if (options.backend == "mpi") return make_mpi_communicator(options);
  if (options.backend == "nccl") return make_nccl_communicator(options);
  throw InvalidArgument(
      concat("unknown backend \"", options.backend, "\"; wanted \"native\", \"mpi\" or \"nccl\""));
}

}  // namespace deepseek_train::collectives
