#include "bench/collectives/openmpi.h"

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <cstdlib>

#include "deepseek_train/core/error.h"

namespace deepseek_train::bench {
namespace {

// OpenMPI 4.1's numbers for coll_tuned_allreduce_algorithm.
constexpr int kDefault = 0, kRing = 4, kSegmentedRing = 5, kRabenseifner = 6;

// A communicator keeps the algorithm that was chosen when it was made.
MPI_Comm communicator_with(int algorithm) {
  int index = 0, count = 0;
  MPI_T_cvar_handle handle;
  DST_CHECK_AS(Unavailable,
               MPI_T_cvar_get_index("coll_tuned_allreduce_algorithm", &index) == MPI_SUCCESS &&
                   MPI_T_cvar_handle_alloc(index, nullptr, &handle, &count) == MPI_SUCCESS &&
                   MPI_T_cvar_write(handle, &algorithm) == MPI_SUCCESS,
               "this MPI does not let an all_reduce algorithm be chosen; wanted OpenMPI 4.1");
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &comm);
  MPI_T_cvar_handle_free(&handle);
  return comm;
}

Contestant in_place(std::string name, float* data, MPI_Comm comm) {
  return {std::move(name), data, data, [data, comm](size_t count) {
            MPI_Allreduce(MPI_IN_PLACE, data, static_cast<int>(count), MPI_FLOAT, MPI_SUM, comm);
          }};
}

}  // namespace

void allow_choice_of_algorithms() {
  ::setenv("OMPI_MCA_coll_tuned_use_dynamic_rules", "1", /*overwrite=*/1);
}

std::vector<Contestant> openmpi_contestants(float* in, float* out) {
  int provided = 0;
  MPI_T_init_thread(MPI_THREAD_SINGLE, &provided);
  const MPI_Comm comm = communicator_with(kDefault);
  std::vector<Contestant> contestants;
  contestants.push_back({"openmpi", in, out, [in, out, comm](size_t count) {
                           MPI_Allreduce(in, out, static_cast<int>(count), MPI_FLOAT, MPI_SUM,
                                         comm);
                         }});
  contestants.push_back(in_place("openmpi in place", in, comm));
  contestants.push_back(in_place("openmpi ring", in, communicator_with(kRing)));
  contestants.push_back(in_place("openmpi segmented", in, communicator_with(kSegmentedRing)));
  contestants.push_back(in_place("openmpi rabenseifner", in, communicator_with(kRabenseifner)));
  return contestants;
}

}  // namespace deepseek_train::bench
