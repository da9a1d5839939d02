#include "collectives/transport/shm/shrink_agreement.h"

#include <algorithm>
#include <numeric>
#include <thread>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using Clock = PeerWatch::Clock;
constexpr auto kPollInterval = std::chrono::microseconds(200);

}  // namespace

bool Verdict::is_member(int rank) const {
  return std::binary_search(members.begin(), members.end(), rank);
}

ShrinkAgreement::ShrinkAgreement(ShmGroup& group) : group_(group), candidates_(group.size()) {
  std::iota(candidates_.begin(), candidates_.end(), 0);
}

bool ShrinkAgreement::has_come(int rank, uint32_t round) const {
  return block(rank).departure.round.load(std::memory_order_acquire) >= round;
}

// For good: dead, or it has given its communicator up.
bool ShrinkAgreement::is_gone(int rank) const {
  return group_.watch().is_dead(rank) ||
         block(rank).presence.load(std::memory_order_acquire) == Presence::kClosed;
}

bool ShrinkAgreement::is_settled(int rank, uint32_t round) const {
  return has_come(rank, round) || is_gone(rank) || group_.watch().is_stopped(rank);
}

Verdict ShrinkAgreement::decide(uint32_t round) {
  block(group_.rank()).departure.round.store(round, std::memory_order_release);
  const auto& sealed = group_.layout().header().sealed_round;
  const auto deadline = Clock::now() + group_.timeout();
  // Twice the timeout: the scribe's began when it came, which may be a timeout later.
  const auto last_moment = deadline + group_.timeout();
  while (sealed.load(std::memory_order_acquire) < round) {
    const auto now = Clock::now();
    const auto missing = std::find_if_not(candidates_.begin(), candidates_.end(),
                                          [&](int r) { return is_settled(r, round); });
    const bool are_settled = missing == candidates_.end();
    group_.watch().look(now, are_settled ? group_.rank() : *missing);
    if ((are_settled || now >= deadline) && become_scribe(round)) {
      write_verdict(round);
      break;
    }
    DST_CHECK_AS(Timeout, now < last_moment, "the survivors did not agree within ",
                 2 * group_.timeout().count(), " ms who is left; ", group_.report());
    std::this_thread::sleep_for(kPollInterval);
  }
  Verdict verdict = read_verdict(round);
  candidates_ = verdict.members;
  return verdict;
}

// One at a time; a dead scribe's place is free.
bool ShrinkAgreement::become_scribe(uint32_t round) {
  auto& scribe = group_.layout().header().scribe;
  uint64_t seen = scribe.load(std::memory_order_acquire);
  const auto holder = static_cast<int>(seen & 0xffff'ffffu) - 1;
  if (seen >> 32 >= round && !(holder >= 0 && is_gone(holder))) return false;
  const uint64_t mine = uint64_t{round} << 32 | static_cast<uint32_t>(group_.rank() + 1);
  return scribe.compare_exchange_strong(seen, mine);
}

void ShrinkAgreement::write_verdict(uint32_t round) {
  std::vector<int> members;
  for (const int r : candidates_) {
    if (has_come(r, round) && !is_gone(r)) members.push_back(r);
  }
  for (int r = 0; r < group_.size(); ++r) {
    const auto place = std::lower_bound(members.begin(), members.end(), r);
    const bool is_member = place != members.end() && *place == r;
    block(r).departure.new_rank = is_member ? static_cast<int>(place - members.begin()) : -1;
  }
  SegmentHeader& header = group_.layout().header();
  header.was_entered_by_all = was_entered_by_all(members);
  header.sealed_round.store(round, std::memory_order_release);
}

bool ShrinkAgreement::was_entered_by_all(const std::vector<int>& members) const {
  const Departure* last = nullptr;
  for (const int r : members) {
    const Departure& departure = block(r).departure;
    if (!last || departure.pending > last->pending) last = &departure;
  }
  // Without an opening step it was refused, so at least one rank had not entered it.
  for (const int r : members) {
    const Departure& departure = block(r).departure;
    if (departure.pending == last->pending && !departure.has_entered) return false;
  }
  for (int r = 0; r < group_.size(); ++r)
    if (!group_.has_taken(r, last->open_step)) return false;
  return last->pending != 0;
}

Verdict ShrinkAgreement::read_verdict(uint32_t round) const {
  const SegmentHeader& header = group_.layout().header();
  DST_CHECK_AS(Unavailable,
               header.sealed_round.load(std::memory_order_acquire) == round &&
                   block(group_.rank()).departure.new_rank >= 0,
               group_.name_rank(group_.rank()),
               " came too late to shrink(): the others have counted it as lost and gone on");
  Verdict verdict;
  verdict.was_entered_by_all = header.was_entered_by_all != 0;
  for (int r = 0; r < group_.size(); ++r)
    (block(r).departure.new_rank >= 0 ? verdict.members : verdict.lost).push_back(r);
  return verdict;
}

bool ShrinkAgreement::finish(uint32_t round, const Verdict& verdict) {
  const auto has_finished = [&](int r) {
    return block(r).departure.finished_round.load(std::memory_order_acquire) >= round;
  };
  block(group_.rank()).departure.finished_round.store(round, std::memory_order_release);
  const auto deadline = Clock::now() + group_.timeout();
  for (const int r : verdict.members) {
    while (!has_finished(r)) {
      group_.watch().look(Clock::now(), r);
      // Its last word is read after its end: dead or left without it, it will never finish.
      if (is_gone(r) && !has_finished(r)) return false;
      DST_CHECK_AS(Timeout, Clock::now() < deadline, group_.name_rank(r),
                   " did not finish its part of shrink() within ", group_.timeout().count(), " ms");
      std::this_thread::sleep_for(kPollInterval);
    }
  }
  return true;
}

}  // namespace deepseek_train::collectives
