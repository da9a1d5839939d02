// What the survivors do with the call that a loss interrupted.
//
// Calls run in step: a rank opens call s + 1 only when all have opened call s, and returns from an
// all_reduce only when its result stands everywhere (arena: all slices are done; recoverable: all
// have taken the committing step). So the members' departures tell, to each the same:
//
//   someone completed my call      -> the result stands, the lost ranks' part in it
//   all members were in it         -> entered by all: finished from the journals (arena), or redone
//                                     from the kept inputs; else redone, if the buffers surely
//                                     live: no input has been touched
//   some member had not come to it -> untouched; the caller makes it again
#include <algorithm>

#include "collectives/algorithms/partition.h"
#include "collectives/transport/shm/copy_bytes.h"
#include "collectives/transport/shm/shm_transport.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using Interrupted = Survivors::Interrupted;

std::vector<ProcessId> processes_of(const ShmGroup& group, const std::vector<int>& members) {
  std::vector<ProcessId> processes;
  for (const int r : members) processes.push_back(group.layout().rank(r).process);
  return processes;
}

}  // namespace

SurvivingTransport ShmTransport::shrink(const std::string&) {
  DST_CHECK(!has_shrunk_, "this communicator has been shrunk already; use the one it gave");
  has_shrunk_ = true;
  group_.fail("it shrinks the group");
  publish_departure();
  ShrinkAgreement agreement(group_);
  try {
    for (uint32_t round = 1;; ++round) {
      const Verdict verdict = agreement.decide(round);
      const Settlement settlement = settle(verdict, round);
      auto successor = make_successor(verdict, round);
      if (successor && agreement.finish(round, verdict))
        return conclude(std::move(successor), verdict, settlement);
    }
  } catch (...) {
    group_.close();  // the others need not wait for this rank
    throw;
  }
}

void ShmTransport::publish_departure() {
  Departure& mine = group_.layout().rank(rank()).departure;
  mine.num_completed = num_completed_;
  mine.last_arena = last_arena_;
  if (!pending_) return;
  mine.pending = pending_->sequence;
  mine.has_entered = pending_->sequence == sequence_;
  mine.open_step = open_step_;
  mine.is_input_kept = is_input_kept_;
  const CollectiveCall& call = pending_->call;
  mine.may_redo = options_.recoverable ||
                  arenas_.find(call.out, call.count * size_bytes(call.dtype)).arena != nullptr;
  mine.signature = sign(pending_->call, pending_->sequence);
}

ShmTransport::Settlement ShmTransport::settle(const Verdict& verdict, uint32_t round) {
  if (!pending_ || pending_->call.kind != Collective::kAllReduce || size() == 1) return {};
  const Departure& mine = group_.layout().rank(rank()).departure;
  bool is_completed_somewhere = false, are_all_in_it = true, are_all_inputs_kept = true,
       may_redo = true;
  for (const int r : verdict.members) {
    const Departure& theirs = group_.layout().rank(r).departure;
    is_completed_somewhere |= theirs.num_completed >= mine.pending;
    are_all_in_it &=
        theirs.pending == mine.pending && is_same_call(theirs.signature, mine.signature);
    are_all_inputs_kept &= theirs.is_input_kept != 0;
    may_redo &= theirs.may_redo != 0;
  }
  const bool is_in_arena = mine.has_entered && signature_.arena != 0 && are_all_in_my_arena();
  if (is_completed_somewhere)
    return {is_in_arena || options_.recoverable ? Interrupted::kIncludesLost : Interrupted::kNone};
  if (!are_all_in_it) return {Interrupted::kUntouched};
  if (!verdict.was_entered_by_all || !are_all_calls_the_same()) {
    // Private memory that nobody asked to keep may be gone: its owner has left the call.
    if (!may_redo) return {Interrupted::kUntouched};
    return {.outcome = Interrupted::kWithoutLost, .must_redo = true};
  }
  if (is_in_arena) {
    finish_in_arena(verdict, round);
    return {Interrupted::kIncludesLost};
  }
  if (!are_all_inputs_kept) return {Interrupted::kNone};
  return {.outcome = Interrupted::kWithoutLost, .must_redo = true, .must_restore = true};
}

// Of the lost ranks too. If one had made another call, all found that out before they wrote.
bool ShmTransport::are_all_calls_the_same() const {
  const CallSignature& mine = group_.layout().rank(rank()).departure.signature;
  for (int r = 0; r < size(); ++r)
    if (!is_same_call(group_.call_of(r, mine.sequence), mine)) return false;
  return true;
}

// Every member finishes its own slice, and the lost ranks' slices are shared out. Whoever takes one
// over goes on in its owner's journal, so that it can be taken over again.
void ShmTransport::finish_in_arena(const Verdict& verdict, uint32_t round) {
  const CollectiveCall& call = pending_->call;
  const ArenaLocation location = arenas_.find(call.out, call.count * size_bytes(call.dtype));
  DST_CHECK(location.arena, "the buffer of the interrupted all_reduce was freed before shrink()");
  for (int owner = 0; owner < size(); ++owner) {
    const int finisher =
        verdict.is_member(owner) ? owner : verdict.members[owner % verdict.members.size()];
    if (finisher == rank()) reduce_slice_in_arena(call, location, pending_->sequence, owner, round);
  }
}

// Null if a member died before the new group stood.
std::unique_ptr<ShmTransport> ShmTransport::make_successor(const Verdict& verdict, uint32_t round) {
  ShmTransportOptions options = options_;
  options.group = concat(options_.group, "/shrink.", round);
  options.rank = group_.layout().rank(rank()).departure.new_rank;
  options.size = static_cast<int>(verdict.members.size());
  std::unique_ptr<ShmTransport> successor;
  const auto processes = processes_of(group_, verdict.members);
  try {
    successor.reset(new ShmTransport(options, processes, *this));
  } catch (const Unavailable&) {
    if (std::all_of(processes.begin(), processes.end(), is_alive)) throw;
    return nullptr;
  }
  successor->arenas_ = arenas_.of_members(verdict.members);
  for (const int r : verdict.members)
    successor->last_arena_ =
        std::max(successor->last_arena_, group_.layout().rank(r).departure.last_arena);
  return successor;
}

SurvivingTransport ShmTransport::conclude(std::unique_ptr<ShmTransport> successor,
                                          const Verdict& verdict, const Settlement& settlement) {
  if (!settlement.must_redo) return {std::move(successor), verdict.lost, settlement.outcome};
  const CollectiveCall& call = pending_->call;
  if (settlement.must_restore)
    copy_bytes(call.out, kept_input_.data(), call.count * size_bytes(call.dtype));
  try {
    successor->run(call);
    return {std::move(successor), verdict.lost, settlement.outcome};
  } catch (const Unavailable&) {
    // One more rank has been lost: the same again among those who are left now.
    SurvivingTransport left = successor->shrink({});
    std::vector<int> lost = verdict.lost;
    for (const int r : left.lost) lost.push_back(verdict.members[r]);
    std::sort(lost.begin(), lost.end());
    if (left.interrupted == Interrupted::kIncludesLost) left.interrupted = settlement.outcome;
    return {std::move(left.transport), std::move(lost), left.interrupted};
  }
}

}  // namespace deepseek_train::collectives
