// Which ranks of this host have died, and which are stopped.
#pragma once

#include <poll.h>

#include <chrono>
#include <vector>

#include "collectives/transport/shm/process_id.h"
#include "deepseek_train/core/unique_fd.h"

namespace deepseek_train::collectives {

// A process's death is seen through a descriptor of it (pidfd), or through /proc where the kernel
// has none; that it is stopped, in its state in /proc. Nothing is asked of the peers, so one that
// computes for minutes or never gets the processor raises no alarm. Ranks that are threads of this
// process cannot be watched. One thread at a time.
class PeerWatch {
 public:
  using Clock = std::chrono::steady_clock;

  // One process a rank.
  explicit PeerWatch(std::vector<ProcessId> processes);

  // Costs one poll() and, for the suspect, one read of /proc, which tells of its death before it
  // has ended; every 100 ms one read per peer. Cheap to call too often: within a millisecond of the
  // last look it does nothing.
  void look(Clock::time_point now, int suspect);

  // As of the last look.
  bool is_dead(int rank) const { return peers_[rank].is_dead; }
  // It was stopped at six looks in a row, a tenth of a second apart.
  bool is_stopped(int rank) const { return peers_[rank].num_stopped_looks >= kStoppedLooks; }

 private:
  static constexpr int kStoppedLooks = 6;

  struct Peer {
    ProcessId process;
    UniqueFd descriptor;
    bool is_watched = false;
    bool is_dead = false;
    int num_stopped_looks = 0;
  };

  void look_for_deaths();
  void look_for_stops();

  std::vector<Peer> peers_;
  std::vector<pollfd> polled_;  // by rank; fd -1: not through a descriptor
  Clock::time_point next_look_{};
  Clock::time_point next_stop_look_{};
};

}  // namespace deepseek_train::collectives
