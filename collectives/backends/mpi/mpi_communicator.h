// The MPI backend, for clusters whose MPI knows the network best.
#pragma once

#include <memory>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::collectives {

// Joins MPI_COMM_WORLD. Throws Unavailable where the library was built without MPI.
std::unique_ptr<Communicator> make_mpi_communicator(const CommunicatorOptions& options);

}  // namespace deepseek_train::collectives
