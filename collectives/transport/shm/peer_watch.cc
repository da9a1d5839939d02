#include "collectives/transport/shm/peer_watch.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;

constexpr auto kDeathInterval = 1ms;
constexpr auto kStopInterval = 100ms;

UniqueFd open_process(const ProcessId& process) {
  UniqueFd descriptor(
      static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(process.pid), 0)));
  // The pid may have been given to a stranger just before it was opened.
  if (descriptor && !is_alive(process)) descriptor.reset();
  return descriptor;
}

}  // namespace

PeerWatch::PeerWatch(std::vector<ProcessId> processes) {
  const auto self = this_process();
  for (const ProcessId& process : processes) {
    Peer peer;
    peer.process = process;
    peer.is_watched = process.pid != self.pid;
    if (peer.is_watched) peer.descriptor = open_process(process);
    polled_.push_back({peer.descriptor.get(), POLLIN, 0});
    peers_.push_back(std::move(peer));
  }
}

void PeerWatch::look(Clock::time_point now, int suspect) {
  if (now < next_look_) return;
  next_look_ = now + kDeathInterval;
  look_for_deaths();
  Peer& peer = peers_[suspect];
  if (peer.is_watched && !peer.is_dead) peer.is_dead = is_being_killed(peer.process);
  if (now < next_stop_look_) return;
  next_stop_look_ = now + kStopInterval;
  look_for_stops();
}

void PeerWatch::look_for_deaths() {
  const int num_ended = ::poll(polled_.data(), polled_.size(), 0);
  for (size_t r = 0; r < peers_.size(); ++r) {
    Peer& peer = peers_[r];
    if (!peer.is_watched || peer.is_dead) continue;
    if (!peer.descriptor)
      peer.is_dead = !is_alive(peer.process);
    else
      peer.is_dead = num_ended > 0 && polled_[r].revents != 0;
    if (peer.is_dead) polled_[r].fd = -1;
  }
}

// Looks are counted, not time: if this process is stopped too (Ctrl-Z stops a whole job), the time
// in between proves nothing.
void PeerWatch::look_for_stops() {
  for (Peer& peer : peers_) {
    if (!peer.is_watched || peer.is_dead) continue;
    peer.num_stopped_looks = collectives::is_stopped(peer.process) ? peer.num_stopped_looks + 1 : 0;
  }
}

}  // namespace deepseek_train::collectives
