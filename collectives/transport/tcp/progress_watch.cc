#include "collectives/transport/tcp/progress_watch.h"

#include <algorithm>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;

constexpr auto kSpinTime = 30us;
constexpr auto kHeartbeatInterval = 250ms;
constexpr auto kPollLimit = 50ms;  // also how long an abort() from another thread may go unnoticed

}  // namespace

void ProgressWatch::idle(const std::vector<short>& interests) {
  const auto now = Clock::now();
  if (!is_idle_) {
    is_idle_ = true;
    idle_since_ = now;
    next_heartbeat_ = now + std::min<Clock::duration>(kHeartbeatInterval, mesh_.timeout() / 8);
  }
  if (now - idle_since_ < kSpinTime) return;
  if (now - idle_since_ >= mesh_.timeout()) throw_timeout(interests);
  if (now >= next_heartbeat_) {
    mesh_.send_heartbeat(call_);
    next_heartbeat_ = now + std::min<Clock::duration>(kHeartbeatInterval, mesh_.timeout() / 8);
  }
  mesh_.poll(interests,
             std::min<std::chrono::milliseconds>(kPollLimit, std::max(mesh_.timeout() / 16, 1ms)));
}

void ProgressWatch::throw_timeout(const std::vector<short>& interests) const {
  mesh_.throw_if_failed();
  std::string late = mesh_.silent_ranks(
      call_, std::min<std::chrono::milliseconds>(4 * kHeartbeatInterval, mesh_.timeout() / 2));
  for (int peer = 0; late.empty() && peer < mesh_.size(); ++peer) {
    if (interests[peer]) late = mesh_.name_rank(peer);
  }
  throw Timeout(concat(late, " did not arrive in ", describe(call_), " within ",
                       mesh_.timeout().count(),
                       " ms; it hangs, is busy elsewhere, or needs a longer timeout"));
}

}  // namespace deepseek_train::collectives
