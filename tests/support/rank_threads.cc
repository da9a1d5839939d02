#include "tests/support/rank_threads.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <exception>
#include <thread>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/unique_fd.h"

namespace deepseek_train::test_support {
namespace {

using collectives::CommunicatorOptions;

std::vector<std::exception_ptr> run_all(int size, const RankBody& body,
                                        CommunicatorOptions options) {
  const std::string job_id = unique_job_id();
  if (options.transport == "tcp") {
    options.launch.rendezvous_host = "127.0.0.1";
    options.launch.rendezvous_port = free_port();
  }
  std::vector<std::exception_ptr> errors(size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        CommunicatorOptions mine = options;
        mine.launch = launch_info(rank, size, job_id);
        mine.launch.rendezvous_host = options.launch.rendezvous_host;
        mine.launch.rendezvous_port = options.launch.rendezvous_port;
        const auto communicator = collectives::make_communicator(mine);
        body(*communicator);
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return errors;
}

}  // namespace

std::string unique_job_id() {
  static std::atomic<int> number = 0;
  return concat("test-", ::getpid(), "-", ++number);
}

// Below the ports that the system gives to outgoing connections: one of those could be taken between
// this and the use of it. Processes start at different places.
int free_port() {
  constexpr int kFirst = 12'000, kNumPorts = 20'000;
  static std::atomic<int> next = ::getpid() * 61;
  for (int attempt = 0; attempt < kNumPorts; ++attempt) {
    const int port = kFirst + (next++ & 0x7fffffff) % kNumPorts;
    UniqueFd listener(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_ANY);
    address.sin_port = htons(static_cast<uint16_t>(port));
    if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0)
      return port;
  }
  throw Unavailable("no free port for a test");
}

collectives::LaunchInfo launch_info(int rank, int size, const std::string& job_id) {
  return {.rank = rank, .size = size, .local_rank = rank, .local_size = size, .job_id = job_id};
}

void run_ranks(int size, const RankBody& body, CommunicatorOptions options) {
  std::exception_ptr peer_failure;
  for (const auto& error : run_all(size, body, std::move(options))) {
    if (!error) continue;
    try {
      std::rethrow_exception(error);
    } catch (const PeerFailure&) {
      peer_failure = error;
    }
  }
  if (peer_failure) std::rethrow_exception(peer_failure);
}

std::vector<std::string> errors_of_ranks(int size, const RankBody& body,
                                         CommunicatorOptions options) {
  std::vector<std::string> texts;
  for (const auto& error : run_all(size, body, std::move(options))) {
    try {
      if (error) std::rethrow_exception(error);
      texts.emplace_back();
    } catch (...) {
      texts.push_back(current_error());
    }
  }
  return texts;
}

std::string current_error() {
  try {
    throw;
  } catch (const Timeout& error) {
    return concat("Timeout: ", error.what());
  } catch (const PeerFailure& error) {
    return concat("PeerFailure: ", error.what());
  } catch (const Unavailable& error) {
    return concat("Unavailable: ", error.what());
  } catch (const InvalidArgument& error) {
    return concat("InvalidArgument: ", error.what());
  } catch (const std::exception& error) {
    return concat("Error: ", error.what());
  }
}

}  // namespace deepseek_train::test_support
