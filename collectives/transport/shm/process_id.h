// Which process, and is it still there.
#pragma once

#include <cstdint>

namespace deepseek_train::collectives {

// A pid alone is reused; with its start time it names one process for good (on one boot, in one pid
// namespace).
struct ProcessId {
  int64_t pid = 0;
  uint64_t start_time = 0;  // clock ticks since boot; 0 where /proc does not tell
};

ProcessId this_process();

// False once the process has ended, a zombie that nobody has waited for included. Costs one read of
// /proc.
bool is_alive(const ProcessId& process);

// True from the moment a fatal signal takes hold. With much memory mapped a process needs tens of
// milliseconds more to end. Costs one read of /proc.
bool is_being_killed(const ProcessId& process);

// True while SIGSTOP, SIGTSTP and the like hold the process; a debugger's stop does not count.
// Costs one read of /proc.
bool is_stopped(const ProcessId& process);

}  // namespace deepseek_train::collectives
