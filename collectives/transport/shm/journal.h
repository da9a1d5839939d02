// Reducing a slice of an arena so that a death in the middle loses nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "collectives/transport/shm/group.h"

namespace deepseek_train::collectives {

// One rank's slice of an all_reduce in an arena: the same stretch of every rank's buffer.
struct SliceReduction {
  DType dtype;
  ReduceOp op;
  std::span<std::byte* const> buffers;  // where the slice begins in each rank's buffer
  size_t count;                         // elements
};

// Called before every mark and after every copy, with the journal's progress: where fault tests
// kill.
using JournalProbe = void (*)(uint64_t progress);

// Sums every block of the slice into the journal, marks it there, copies it to all buffers, and
// marks it done. Inputs are overwritten only by copies of a marked block, so whoever calls this
// again with the same slice and sequence goes on where the last one stopped: it copies a marked
// block anew (a copy may have been cut off) and computes the rest from inputs that are still whole.
//
// One caller at a time. `group` is asked before every block whether to go on; `round` is that of
// the shrink that finishes the slice, 0 in the call itself.
void reduce_through_journal(Journal& journal, uint64_t sequence, const SliceReduction& slice,
                            ShmGroup& group, uint32_t round, JournalProbe probe);

}  // namespace deepseek_train::collectives
