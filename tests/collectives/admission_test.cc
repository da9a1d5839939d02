// A killed rank is replaced by a process started again.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "deepseek_train/core/error.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;

class AdmissionTest : public ::testing::TestWithParam<const char*> {
 protected:
  CommunicatorOptions options(int rank, int size) const {
    CommunicatorOptions options;
    options.launch = test_support::launch_info(rank, size, job_);
    options.launch.rendezvous_host = "127.0.0.1";
    options.launch.rendezvous_port = port_;
    options.transport = GetParam();
    options.timeout = 20s;
    return options;
  }
  // Forks a process that ends with status 0 if the body did not throw.
  template <typename Body>
  static pid_t start(const Body& body) {
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    try {
      body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  static int status_of(pid_t pid) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    return status;
  }
  static void check_sum(Communicator& communicator, int size) {
    std::vector<float> data(10'000, static_cast<float>(communicator.rank() + 1));
    communicator.all_reduce(std::span(data));
    DST_ASSERT(communicator.size() == size, "found ", communicator.size(), " ranks");
    for (const float value : data)
      DST_ASSERT(value == static_cast<float>(size * (size + 1) / 2), "a sum is ", value);
  }

  const std::string job_ = test_support::unique_job_id();
  const int port_ = test_support::free_port();
};

TEST_P(AdmissionTest, AKilledRankIsReplacedByAProcessStartedAgain) {
  std::vector<pid_t> ranks;
  for (int rank = 0; rank < 3; ++rank) {
    ranks.push_back(start([&, rank] {
      auto communicator = make_communicator(options(rank, 3));
      try {
        check_sum(*communicator,
                  3);  // rank 1 may be gone before the others have seen the end of it
        if (rank == 1) ::kill(::getpid(), SIGKILL);
        check_sum(*communicator, 3);
        throw Internal("the loss of rank 1 went unnoticed");
      } catch (const Unavailable&) {
      }
      auto left = communicator->shrink().communicator;
      check_sum(*left, 2);
      std::unique_ptr<Communicator> whole;
      while (!whole) whole = left->admit(50ms);
      DST_ASSERT(whole->rank() == left->rank(), "old ranks keep their numbers");
      check_sum(*whole, 3);
      check_sum(*left, 2);  // still there
    }));
  }
  EXPECT_TRUE(WIFSIGNALED(status_of(ranks[1])));
  const pid_t again = start([&] {
    auto communicator = join_communicator(options(1, 3));
    DST_ASSERT(communicator->rank() == 2, "a newcomer is the last rank");
    check_sum(*communicator, 3);
  });
  EXPECT_EQ(status_of(again), 0);
  EXPECT_EQ(status_of(ranks[0]), 0);
  EXPECT_EQ(status_of(ranks[2]), 0);
}

TEST_P(AdmissionTest, NobodyCameAndNobodyAdmits) {
  auto patient = options(0, 1);
  const auto alone = make_communicator(patient);
  EXPECT_EQ(alone->admit(10ms), nullptr);
  auto stranger = options(0, 1);
  stranger.launch.job_id += "-other";
  stranger.timeout = 100ms;
  EXPECT_THROW(join_communicator(stranger), Timeout);
}

INSTANTIATE_TEST_SUITE_P(Transports, AdmissionTest, ::testing::Values("shm", "tcp"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace deepseek_train::collectives
