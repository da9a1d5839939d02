// all_reduce of private memory: staged, and read from its owner's process; any alignment.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <iterator>

#include "collectives/transport/shm/shm_transport.h"
#include "tests/collectives/values.h"
#include "tests/support/rank_processes.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using test_support::unique_job_id;
using testing::Reduction;
using testing::same_bits;

struct Way {
  const char* name;
  PrivateWay way;
  bool is_recoverable;
};

ShmTransportOptions options_for(const Way& way, const Communicator& communicator,
                                const std::string& group) {
  ShmTransportOptions options;
  options.group = group;
  options.rank = communicator.rank();
  options.size = communicator.size();
  options.recoverable = way.is_recoverable;
  options.private_way = way.way;
  options.min_read_bytes = 64 << 10;
  return options;
}

class ShmPrivateTest : public ::testing::TestWithParam<Way> {};

// The data begins `offset` bytes after an aligned address.
template <typename T>
void check(Transport& transport, const Reduction<T>& reduction, size_t offset) {
  const auto& in = reduction.inputs[transport.rank()];
  const size_t bytes = in.size() * sizeof(T);
  std::vector<std::byte> memory(bytes + offset + 64, std::byte{0x5a});
  std::byte* data = memory.data() + offset;
  if (bytes != 0) std::memcpy(data, in.data(), bytes);
  transport.run({.kind = Collective::kAllReduce,
                 .in = data,
                 .out = data,
                 .count = in.size(),
                 .dtype = dtype_of<T>(),
                 .op = reduction.op});
  std::vector<T> out(in.size());
  if (bytes != 0) std::memcpy(out.data(), data, bytes);
  EXPECT_TRUE(same_bits(out, reduction.expected)) << in.size() << " elements at " << offset;
  for (size_t i = 0; i < memory.size(); ++i) {
    if (i < offset || i >= offset + bytes) {
      ASSERT_EQ(memory[i], std::byte{0x5a}) << i;
    }
  }
}

TEST_P(ShmPrivateTest, EveryWayGivesTheSameBitsAtAnyAlignment) {
  for (const int size : {2, 3, 5}) {
    const std::string group = unique_job_id();
    std::vector<Reduction<float>> reductions;
    for (size_t count : {0, 1, 15, 2047, 2049, 16'384, 16'385, 70'001, 400'003})
      reductions.emplace_back(size, count, ReduceOp::kSum);
    const Reduction<BFloat16> narrow(size, 200'001, ReduceOp::kAvg);
    test_support::run_ranks(size, [&](Communicator& communicator) {
      ShmTransport transport(options_for(GetParam(), communicator, group));
      for (const auto& reduction : reductions) {
        for (size_t offset : {0, 4, 12, 60}) check(transport, reduction, offset);
      }
      for (size_t offset : {2, 6}) check(transport, narrow, offset);
    });
  }
}

TEST_P(ShmPrivateTest, ProcessesGetTheSameBitsAsThreads) {
  const Reduction<float> reduction(3, 300'007, ReduceOp::kSum);
  const std::string group = unique_job_id();
  const auto outcomes = test_support::run_rank_processes(
      3,
      [&](Communicator& communicator) -> std::string {
        ShmTransport transport(options_for(GetParam(), communicator, group));
        auto data = reduction.inputs[communicator.rank()];
        for (int round = 0; round < 3; ++round) {
          data = reduction.inputs[communicator.rank()];
          transport.run({.kind = Collective::kAllReduce,
                         .in = data.data(),
                         .out = data.data(),
                         .count = data.size(),
                         .dtype = DType::kFloat32});
          if (!same_bits(data, reduction.expected)) return "other bits";
        }
        return "same bits";
      },
      {});
  for (const auto& outcome : outcomes) EXPECT_EQ(outcome.report, "same bits");
}

// As in a container without ptrace permission: from here on the kernel refuses process_vm_readv to
// this process.
bool forbid_reading_peers() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{static_cast<unsigned short>(std::size(code)), code};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(ShmForbiddenReadTest, OneRankWithoutPermissionMakesAllStage) {
  const Reduction<float> reduction(3, 600'011, ReduceOp::kSum);
  const std::string group = unique_job_id();
  const auto outcomes = test_support::run_rank_processes(
      3,
      [&](Communicator& communicator) -> std::string {
        if (communicator.rank() == 1 && !forbid_reading_peers()) return "cannot forbid it";
        const Way way{"", PrivateWay::kRead, false};
        ShmTransport transport(options_for(way, communicator, group));
        auto data = reduction.inputs[communicator.rank()];
        transport.run({.kind = Collective::kAllReduce,
                       .in = data.data(),
                       .out = data.data(),
                       .count = data.size(),
                       .dtype = DType::kFloat32});
        return same_bits(data, reduction.expected) ? "same bits" : "other bits";
      },
      {});
  for (const auto& outcome : outcomes) EXPECT_EQ(outcome.report, "same bits");
}

INSTANTIATE_TEST_SUITE_P(Ways, ShmPrivateTest,
                         ::testing::Values(Way{"Staged", PrivateWay::kStaged, false},
                                           Way{"StagedRecoverable", PrivateWay::kStaged, true},
                                           Way{"ReadFromPeers", PrivateWay::kRead, false},
                                           Way{"ReadFromPeersRecoverable", PrivateWay::kRead, true},
                                           Way{"Tuned", PrivateWay::kFastest, false}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace deepseek_train::collectives
