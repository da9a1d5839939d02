// Finding each other through a named shared-memory segment.
#pragma once

#include <chrono>
#include <span>
#include <string>

#include "collectives/transport/shm/layout.h"
#include "collectives/transport/shm/mapping.h"

namespace deepseek_train::collectives {

// The segment's name for a group: "/dst-UID-HASH", the hash over the job's id.
std::string segment_name(const std::string& job_id);

// Rank 0 makes the segment, the others attach, and its name is removed before anyone returns, so
// that nothing is left behind however the ranks end. A segment whose maker is dead is replaced.
// Throws Timeout naming the ranks that did not come, InvalidArgument if a live process already uses
// the name or rank, Unavailable if /dev/shm is full, or if one of the `expected` processes (by
// rank; empty: not known) has died.
Mapping join_segment(const std::string& name, int rank, int size, std::chrono::milliseconds timeout,
                     std::span<const ProcessId> expected = {});

}  // namespace deepseek_train::collectives
