#include "collectives/transport/shm/process_id.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "deepseek_train/core/strings.h"
#include "deepseek_train/core/unique_fd.h"

namespace deepseek_train::collectives {
namespace {

struct ProcessState {
  char state = 0;  // 0: unknown
  uint64_t flags = 0;
  uint64_t start_time = 0;
};

// Fields 3, 9 and 22 of /proc/PID/stat. Field 2, the program's name, may hold spaces and brackets,
// so count from the last ')'.
ProcessState read_state(int64_t pid) {
  UniqueFd file(::open(concat("/proc/", pid, "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char text[1024];
  const ssize_t length = file ? ::read(file.get(), text, sizeof(text) - 1) : -1;
  if (length <= 0) return {};
  text[length] = '\0';
  const char* field = std::strrchr(text, ')');
  if (!field || field[1] != ' ') return {};
  field += 2;
  ProcessState result{.state = *field};
  for (int number = 3; number < 22 && field; ++number) {
    if (number == 9) result.flags = std::strtoull(field, nullptr, 10);
    field = std::strchr(field, ' ');
    if (field) ++field;
  }
  if (field) result.start_time = std::strtoull(field, nullptr, 10);
  return result;
}

}  // namespace

ProcessId this_process() { return {::getpid(), read_state(::getpid()).start_time}; }

bool is_alive(const ProcessId& process) {
  const ProcessState now = read_state(process.pid);
  if (now.state == 0) return ::kill(static_cast<pid_t>(process.pid), 0) == 0 || errno == EPERM;
  if (now.state == 'Z' || now.state == 'X') return false;
  return process.start_time == 0 || now.start_time == process.start_time;
}

bool is_being_killed(const ProcessId& process) {
  constexpr uint64_t kKilledBySignal = 0x400;  // PF_SIGNALED of the kernel's sched.h
  const ProcessState now = read_state(process.pid);
  return (now.flags & kKilledBySignal) != 0 &&
         (process.start_time == 0 || now.start_time == process.start_time);
}

bool is_stopped(const ProcessId& process) {
  const ProcessState now = read_state(process.pid);
  return now.state == 'T' && (process.start_time == 0 || now.start_time == process.start_time);
}

}  // namespace deepseek_train::collectives
