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

// Below the ports that the system hands out by itself, or another test's connection might take it
// before rank 0 listens there; begun at a place that differs between processes.
int free_port() {
  constexpr int kFirst = 15'000, kCount = 15'000;
  static std::atomic<int> next{static_cast<int>(::getpid() * 37 % kCount)};
  for (int tries = 0; tries < kCount; ++tries) {
    const int port = kFirst + next++ % kCount;
    UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0)
      return port;
  }
  throw Unavailable("no free port between 15000 and 30000");
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
