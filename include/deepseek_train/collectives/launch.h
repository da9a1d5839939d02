// Who am I, and how many are we: read from what mpirun, srun or torchrun left in the environment.
#pragma once

#include <functional>
#include <string>

namespace deepseek_train::collectives {

struct LaunchInfo {
  int rank = 0;
  int size = 1;
  int local_rank = 0;  // among the ranks of this host
  int local_size = 1;
  // The same on all ranks of one launch and different for every launch: names shared memory and
  // guards the rendezvous.
  std::string job_id;
  // Where rank 0 collects the others' addresses; needed only between hosts. Empty host: none given.
  std::string rendezvous_host;
  int rendezvous_port = 0;
  // Log which way all_reduces go, and why (DST_COLLECTIVES_TRACE=1).
  bool traces_choices = false;
  // Where rank 0 keeps, for a week, what messages between these ranks cost (XDG_CACHE_HOME or
  // ~/.cache, deepseek_train in it). Empty: nowhere, so that every start measures it, for 10 ms on
  // loopback and some tenths of a second on slow links.
  std::string cache_folder;
};

// Looks a variable up; nullptr if it is not set. std::getenv is one.
using GetEnv = std::function<const char*(const char* name)>;

// OpenMPI (OMPI_COMM_WORLD_*), torchrun (RANK, WORLD_SIZE, ...), Slurm steps (SLURM_PROCID, ...),
// else a single process. MASTER_ADDR and MASTER_PORT (default 29500) give the rendezvous under all
// of them, XDG_CACHE_HOME and HOME the cache folder. This is the only place in the collectives that
// reads the environment. Throws InvalidArgument, naming the variables, if one is missing, is no
// number, or if two launchers contradict each other.
LaunchInfo launch_info_from_environment(const GetEnv& get_env);
LaunchInfo launch_info_from_environment();

}  // namespace deepseek_train::collectives
