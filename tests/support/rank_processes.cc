#include "tests/support/rank_processes.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/unique_fd.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::test_support {
namespace {

using Clock = std::chrono::steady_clock;

struct Child {
  pid_t pid = 0;
  UniqueFd report;
  bool has_ended = false;
  bool is_stopped = false;
};

[[noreturn]] void be_rank(int report_fd, const ProcessBody& body,
                          const collectives::CommunicatorOptions& options) {
  std::string report;
  try {
    const auto communicator = collectives::make_communicator(options);
    report = body(*communicator);
  } catch (...) {
    report = current_error();
  }
  const bool ok =
      ::write(report_fd, report.data(), report.size()) == static_cast<ssize_t>(report.size());
  ::_exit(ok ? 0 : 1);
}

std::string read_report(const Child& child) {
  std::string text;
  char buffer[4096];
  for (ssize_t length; (length = ::read(child.report.get(), buffer, sizeof(buffer))) > 0;)
    text.append(buffer, length);
  return text;
}

// Notes a child that has ended or stopped; true if it still runs.
bool look_at(Child& child, ProcessOutcome& outcome, Clock::time_point start) {
  if (child.has_ended) return false;
  int status = 0;
  if (::waitpid(child.pid, &status, WNOHANG | WUNTRACED) == child.pid) {
    if (WIFSTOPPED(status)) {
      child.is_stopped = true;
    } else {
      child.has_ended = true;
      outcome.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
      outcome.elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start);
      outcome.report = read_report(child);
      return false;
    }
  }
  return !child.is_stopped;
}

}  // namespace

std::vector<ProcessOutcome> run_rank_processes(int size, const ProcessBody& body,
                                               collectives::CommunicatorOptions options,
                                               std::chrono::seconds limit) {
  const std::string job_id = unique_job_id();
  const int port = options.transport == "tcp" ? free_port() : 0;
  std::vector<Child> children(size);
  std::vector<ProcessOutcome> outcomes(size);
  for (int rank = 0; rank < size; ++rank) {
    options.launch = launch_info(rank, size, job_id);
    options.launch.rendezvous_host = "127.0.0.1";
    options.launch.rendezvous_port = port;
    int pipe_fds[2];
    DST_ASSERT(::pipe(pipe_fds) == 0, "pipe");
    UniqueFd write_end(pipe_fds[1]);
    children[rank].report.reset(pipe_fds[0]);
    children[rank].pid = ::fork();
    if (children[rank].pid == 0) be_rank(write_end.get(), body, options);
    outcomes[rank].pid = children[rank].pid;
  }
  const auto start = Clock::now();
  for (bool any_running = true; any_running && Clock::now() - start < limit;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    any_running = false;
    for (int rank = 0; rank < size; ++rank)
      any_running |= look_at(children[rank], outcomes[rank], start);
  }
  for (int rank = 0; rank < size; ++rank) {
    if (children[rank].has_ended) continue;
    ::kill(children[rank].pid, SIGKILL);
    ::waitpid(children[rank].pid, nullptr, 0);
    outcomes[rank].signal = SIGKILL;
  }
  return outcomes;
}

}  // namespace deepseek_train::test_support
