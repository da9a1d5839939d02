#include "src/cli/session.h"

#include <signal.h>
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "deepseek_train/core/credentials.h"
#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"

namespace deepseek_train::cli {
namespace {

std::atomic<int> num_signals{0};

void on_signal(int signal) {
  if (num_signals.fetch_add(1) > 0) std::_Exit(128 + signal);
}

// Ctrl-C reaches mpirun alone: Open MPI 4.1 tells its ranks with SIGCONT at once, and with SIGTERM
// only after odls_base_sigkill_timeout seconds. A SIGCONT from anybody else is job control.
void on_continue(int signal, siginfo_t* info, void*) {
  if (info->si_pid == ::getppid()) on_signal(signal);
}

void catch_signals() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  if (!std::getenv("OMPI_COMM_WORLD_SIZE")) return;
  struct sigaction action {};
  action.sa_sigaction = on_continue;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  ::sigaction(SIGCONT, &action, nullptr);
}

// Each rank gets its share of the cores it may use, unless the user has chosen.
void set_threads(const collectives::LaunchInfo& launch) {
  if (std::getenv("OMP_NUM_THREADS")) return;
  const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  at::set_num_threads(std::max(1, cores / std::max(1, launch.local_size)));
}

}  // namespace

bool stop_requested() { return num_signals.load() > 0; }

Session::Session() { catch_signals(); }

Session::~Session() = default;

collectives::Communicator& Session::connect(const SessionOptions& options) {
  if (communicator_) return *communicator_;
  collectives::CommunicatorOptions wanted;
  wanted.launch = launch_;
  wanted.backend = options.backend;
  wanted.timeout = std::chrono::seconds(options.timeout_seconds);
  wanted.insecure_network = options.insecure_network;
  if (!options.credentials.empty())
    wanted.identity = {.credentials = folder_credentials(posix_env(), options.credentials,
                                                         concat("rank", launch_.rank)),
                       .job = options.job};
  communicator_ = collectives::make_communicator(wanted);
  return *communicator_;
}

// Often all ranks meet the same mistake at once. The first rank speaks; the others wait a moment
// for the launcher to end them, and speak only if it did not: then theirs is the only message.
int Session::report(const std::string& message) {
  if (communicator_) communicator_->abort(message);
  if (!is_lead()) {
    for (int i = 0; i < 30 && !stop_requested(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    if (stop_requested()) return kExitError;
  }
  const auto who = launch_.size > 1 ? concat(" (rank ", launch_.rank, ")") : std::string();
  std::fprintf(stderr, "deepseek-train: error%s: %s\n", who.c_str(), message.c_str());
  std::fflush(stderr);
  return kExitError;
}

int Session::run(const std::function<int(Session&)>& command) {
  try {
    launch_ = collectives::launch_info_from_environment();
    if (launch_.size > 1) set_log_prefix(concat("rank ", launch_.rank));
    set_threads(launch_);
    return command(*this);
  } catch (const PeerFailure& failure) {
    // The rank that failed reports its cause.
    log_debug(failure.what());
    return kExitError;
  } catch (const c10::Error& error) {
    return report(concat("libtorch: ", error.what_without_backtrace()));
  } catch (const std::bad_alloc&) {
    return report("out of memory; use a smaller batch, max_length or model");
  } catch (const std::exception& error) {
    return report(error.what());
  }
}

}  // namespace deepseek_train::cli
