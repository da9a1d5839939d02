// Newcomers: how a group takes in a process that was started again.
#include <optional>

#include "collectives/backends/native/native_communicator.h"
#include "collectives/rendezvous/waiting_room.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

// How the enlarged group is made, alike by its old and its new members. Newcomers are on rank 0's
// host, so a group of one host stays one.
CommunicatorOptions options_of(CommunicatorOptions options, const Admission& admission) {
  LaunchInfo& launch = options.launch;
  const bool is_one_host = launch.local_size == launch.size;
  launch.job_id = admission.group;
  launch.rank = admission.rank;
  launch.size = admission.size;
  if (is_one_host) {
    launch.local_rank = admission.rank;
    launch.local_size = admission.size;
  }
  return options;
}

}  // namespace

std::unique_ptr<Communicator> NativeCommunicator::admit(std::chrono::milliseconds patience) {
  std::optional<WaitingRoom> room;
  int32_t newcomers = 0;
  if (rank() == 0) {
    room.emplace(options_.launch.job_id, patience);
    newcomers = room->num_waiting();
  }
  broadcast(std::span<int32_t>(&newcomers, 1));
  if (newcomers == 0) return nullptr;
  const Admission mine{concat(group_, "/admit.", ++num_splits_), rank(), size() + newcomers};
  if (room) room->admit(mine.group, size(), mine.size);
  return std::make_unique<NativeCommunicator>(make_transport(options_of(options_, mine)),
                                              mine.group, options_);
}

std::unique_ptr<Communicator> join_communicator(const CommunicatorOptions& options) {
  DST_CHECK(options.backend == "native", "join_communicator works with the native backend, not ",
            options.backend);
  const Admission mine = wait_for_admission(options.launch.job_id, options.timeout);
  CommunicatorOptions joined = options;
  joined.launch.local_size = joined.launch.size;  // a newcomer is on the group's host
  return std::make_unique<NativeCommunicator>(make_transport(options_of(joined, mine)), mine.group,
                                              options);
}

}  // namespace deepseek_train::collectives
