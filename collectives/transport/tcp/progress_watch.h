// What a rank does while its data streams stand still.
#pragma once

#include <chrono>
#include <vector>

#include "collectives/transport/tcp/mesh.h"

namespace deepseek_train::collectives {

// Used by every loop over non-blocking streams: after a pass that moved something made_progress(),
// after one that did not idle(). idle() tries again for up to 200 us, leaving its core to other
// ranks meanwhile, unless the last wait was longer than that (a slow link); then it sleeps in
// poll(). After 50 ms it tells the others that this rank waits, and after the mesh's timeout it
// throws Timeout, naming the ranks that have not said the same.
class ProgressWatch {
 public:
  ProgressWatch(TcpMesh& mesh, const CallSignature& call) : mesh_(mesh), call_(call) {}

  void made_progress() {
    if (is_idle_) end_idling();
  }
  // Notes in `interests` what may be tried now, as TcpMesh::poll.
  void idle(std::vector<Interest>& interests);

 private:
  using Clock = std::chrono::steady_clock;
  void end_idling();
  void say(bool is_waiting);
  [[noreturn]] void throw_timeout(const std::vector<Interest>& interests) const;

  TcpMesh& mesh_;
  const CallSignature& call_;
  bool is_idle_ = false;
  bool is_worth_spinning_ = true;
  bool has_said_so_ = false;
  Clock::time_point idle_since_;
};

}  // namespace deepseek_train::collectives
