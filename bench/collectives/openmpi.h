// OpenMPI's ways of an all_reduce, as contestants.
#pragma once

#include <vector>

#include "bench/collectives/timing.h"

namespace deepseek_train::bench {

// Before MPI_Init: lets algorithms be chosen later.
void allow_choice_of_algorithms();

// Its default out of place and in place, and in place with each of its ring, segmented ring and
// Rabenseifner algorithms forced. `in` and `out` are buffers of this rank. After MPI_Init.
std::vector<Contestant> openmpi_contestants(float* in, float* out);

}  // namespace deepseek_train::bench
