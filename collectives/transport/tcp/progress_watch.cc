#include "collectives/transport/tcp/progress_watch.h"

#include <sched.h>

#include <algorithm>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;

constexpr auto kSpinTime = 200us;
constexpr auto kPatience = 50ms;

}  // namespace

void ProgressWatch::idle(std::vector<Interest>& interests) {
  const auto now = Clock::now();
  if (!is_idle_) {
    is_idle_ = true;
    idle_since_ = now;
  }
  const auto idle_time = now - idle_since_;
  if (is_worth_spinning_ && idle_time < kSpinTime) {
    ::sched_yield();  // where ranks outnumber cores, what is awaited may come from this very core
    for (Interest& interest : interests) interest.may_send = interest.may_receive = true;
    return;
  }
  if (idle_time >= mesh_.timeout()) throw_timeout(interests);
  const auto patience = std::min<Clock::duration>(kPatience, mesh_.timeout() / 8);
  if (idle_time >= patience && !has_said_so_) say(true);
  mesh_.poll(interests, std::max(1ms, std::chrono::ceil<std::chrono::milliseconds>(patience)));
}

void ProgressWatch::end_idling() {
  is_idle_ = false;
  is_worth_spinning_ = Clock::now() - idle_since_ < kSpinTime;
  if (has_said_so_) say(false);
}

void ProgressWatch::say(bool is_waiting) {
  has_said_so_ = is_waiting;
  mesh_.control().set_waiting(is_waiting);
}

void ProgressWatch::throw_timeout(const std::vector<Interest>& interests) const {
  ControlPlane& control = mesh_.control();
  control.throw_if_failed();
  std::string late = control.ranks_not_waiting_in(call_);
  for (int peer = 0; late.empty() && peer < mesh_.size(); ++peer) {
    if (interests[peer].sends || interests[peer].awaits > 0) late = control.name_rank(peer);
  }
  throw Timeout(
      concat(late, " did not arrive in ", describe(call_), " within ", mesh_.timeout().count(),
             " ms; it hangs, is busy elsewhere, or needs a longer timeout", control.report()));
}

}  // namespace deepseek_train::collectives
