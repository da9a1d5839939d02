#include "collectives/backends/mpi/mpi_communicator.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {

std::unique_ptr<Communicator> make_mpi_communicator(const CommunicatorOptions&) {
  throw Unavailable(
      "this build has no MPI backend; configure with -DDST_WITH_MPI=ON, or use backend \"native\"");
}

}  // namespace deepseek_train::collectives
