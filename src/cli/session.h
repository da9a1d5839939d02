// What every command of the program shares: ranks, threads, signals, and how an error ends the
// program.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::cli {

// True once SIGINT or SIGTERM arrived; a second one ends the program at once.
bool stop_requested();

// Exit codes: 0 success, 1 an error (printed once for all ranks), 130 stopped on request.
inline constexpr int kExitError = 1;
inline constexpr int kExitStopped = 130;

struct SessionOptions {
  std::string backend = "native";
  int64_t timeout_seconds = 120;
  std::string credentials;  // a folder, see CommunicationRecipe
  std::string job;
  bool insecure_network = false;
};

// The ranks of this launch, connected when first needed.
class Session {
 public:
  Session();
  ~Session();
  int rank() const { return launch_.rank; }
  bool is_lead() const { return launch_.rank == 0; }
  // Collective.
  collectives::Communicator& connect(const SessionOptions& options = {});

  // Runs the command and turns its exceptions into the exit code, with one message for all ranks.
  int run(const std::function<int(Session&)>& command);

 private:
  int report(const std::string& message);

  collectives::LaunchInfo launch_;
  std::unique_ptr<collectives::Communicator> communicator_;
};

}  // namespace deepseek_train::cli
