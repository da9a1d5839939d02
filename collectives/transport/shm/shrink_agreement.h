// Who is left: what survivors agree on through the segment of the group that ended.
#pragma once

#include <cstdint>
#include <vector>

#include "collectives/transport/shm/group.h"

namespace deepseek_train::collectives {

struct Verdict {
  std::vector<int> members;  // old ranks, ascending; their places are the new ones
  std::vector<int> lost;
  // Every old rank had entered the last call that a member was in.
  bool was_entered_by_all = false;

  bool is_member(int rank) const;
};

// Rounds: in each, a survivor announces itself; when all candidates have come, died, left, been
// stopped or let the timeout pass, one of them (the scribe) writes the verdict and seals the round;
// the members do their work and finish it. If a member dies before it has finished, nobody can
// finish that round, so all go to the next. A scribe that dies is replaced.
class ShrinkAgreement {
 public:
  explicit ShrinkAgreement(ShmGroup& group);

  // Throws Unavailable if the others have counted this rank as lost.
  Verdict decide(uint32_t round);
  // This rank has done its part of the round. True when all members have; false if one died before.
  // Throws Timeout naming who neither finishes nor dies.
  bool finish(uint32_t round, const Verdict& verdict);

 private:
  RankBlock& block(int rank) const { return group_.layout().rank(rank); }
  bool has_come(int rank, uint32_t round) const;
  bool is_gone(int rank) const;
  bool is_settled(int rank, uint32_t round) const;
  bool become_scribe(uint32_t round);
  void write_verdict(uint32_t round);
  bool was_entered_by_all(const std::vector<int>& members) const;
  Verdict read_verdict(uint32_t round) const;

  ShmGroup& group_;
  std::vector<int> candidates_;
};

}  // namespace deepseek_train::collectives
