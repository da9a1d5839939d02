// Where a process that was started again waits for its group to take it in.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "deepseek_train/core/unique_fd.h"

namespace deepseek_train::collectives {

// What a newcomer must know to take part in making the enlarged group.
struct Admission {
  std::string group;  // its job id
  int rank = 0;
  int size = 0;
};

// A socket of this host whose name follows from the job's id; only processes of the same user get
// in. Rank 0 opens it when the group is ready to take newcomers, and closes it afterwards, so
// nothing listens in between.
class WaitingRoom {
 public:
  // Lets in who knocks within `patience`. Throws Unavailable if another process holds the name.
  WaitingRoom(const std::string& job_id, std::chrono::milliseconds patience);
  int num_waiting() const { return static_cast<int>(waiting_.size()); }
  // Tells the newcomers that they are ranks first_rank, first_rank + 1, ... of `size` in `group`.
  void admit(const std::string& group, int first_rank, int size);

 private:
  std::vector<UniqueFd> waiting_;
};

// The newcomer's side: knocks until it is admitted. Throws Timeout.
Admission wait_for_admission(const std::string& job_id, std::chrono::milliseconds timeout);

}  // namespace deepseek_train::collectives
