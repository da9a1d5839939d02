// What a rank does while its data streams stand still.
#pragma once

#include <chrono>
#include <vector>

#include "collectives/transport/tcp/mesh.h"

namespace deepseek_train::collectives {

// Used by every loop over non-blocking streams: after a pass that moved something made_progress(),
// after one that did not idle(). idle() spins for some 30 us, unless the last wait was longer than
// that (a slow link, more ranks than cores), then sleeps in poll(); after 50 ms it tells the others
// that this rank waits, and after the mesh's timeout it throws Timeout, naming the
// ranks that have not said the same.
class ProgressWatch {
 public:
  ProgressWatch(TcpMesh& mesh, const CallSignature& call) : mesh_(mesh), call_(call) {}

  void made_progress() {
    if (is_idle_) end_idling();
  }
  // `interests` as for TcpMesh::poll.
  void idle(const std::vector<short>& interests);

 private:
  using Clock = std::chrono::steady_clock;
  void end_idling();
  void say(bool is_waiting);
  [[noreturn]] void throw_timeout(const std::vector<short>& interests) const;

  TcpMesh& mesh_;
  const CallSignature& call_;
  bool is_idle_ = false;
  bool is_worth_spinning_ = true;
  bool has_said_so_ = false;
  Clock::time_point idle_since_;
};

}  // namespace deepseek_train::collectives
