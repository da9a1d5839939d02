// Ranks that pretend to be on several hosts.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <numeric>
#include <thread>

#include "collectives/backends/native/native_communicator.h"
#include "collectives/transport/hierarchical/hierarchical_transport.h"
#include "collectives/transport/hierarchical/widen.h"
#include "deepseek_train/core/error.h"
#include "tests/collectives/values.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;
using test_support::unique_job_id;
using testing::random_values;
using testing::Reduction;
using testing::same_bits;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// hosts[rank] is the number of its host. Runs the body on every rank, as a thread, and returns the
// errors.
std::vector<std::string> run_on_hosts(const std::vector<int>& hosts,
                                      const test_support::RankBody& body,
                                      CommunicatorOptions options) {
  const std::string job_id = unique_job_id();
  const int port = test_support::free_port();
  const int size = static_cast<int>(hosts.size());
  options.transport = "hierarchical";
  std::vector<std::string> errors(size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        CommunicatorOptions mine = options;
        mine.launch.rank = rank;
        mine.launch.size = size;
        mine.launch.local_rank =
            static_cast<int>(std::count(hosts.begin(), hosts.begin() + rank, hosts[rank]));
        mine.launch.local_size =
            static_cast<int>(std::count(hosts.begin(), hosts.end(), hosts[rank]));
        mine.launch.job_id = job_id;
        mine.launch.rendezvous_host = "127.0.0.1";
        mine.launch.rendezvous_port = port;
        NativeCommunicator communicator(
            make_hierarchical_transport(mine, static_cast<uint64_t>(1000 + hosts[rank])), job_id,
            mine);
        body(communicator);
      } catch (...) {
        errors[rank] = test_support::current_error();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return errors;
}

CommunicatorOptions options(const std::string& algorithm = "auto") {
  CommunicatorOptions options;
  options.algorithm = algorithm;
  options.timeout = 20s;
  return options;
}

struct Placement {
  const char* name;
  std::vector<int> hosts;
};

class HierarchicalTest : public ::testing::TestWithParam<Placement> {
 protected:
  int size() const { return static_cast<int>(GetParam().hosts.size()); }
  void run(const test_support::RankBody& body, const std::string& algorithm = "auto") {
    for (const auto& error : run_on_hosts(GetParam().hosts, body, options(algorithm)))
      EXPECT_EQ(error, "");
  }
};

INSTANTIATE_TEST_SUITE_P(Placements, HierarchicalTest,
                         ::testing::Values(Placement{"TwoByTwo", {0, 0, 1, 1}},
                                           Placement{"TwoByFour", {0, 0, 0, 0, 1, 1, 1, 1}},
                                           Placement{"ThreeByTwo", {0, 0, 1, 1, 2, 2}},
                                           Placement{"Scattered", {0, 1, 0, 1, 0, 1}},
                                           Placement{"Uneven", {0, 0, 0, 1, 1, 2}}),
                         [](const auto& info) { return std::string(info.param.name); });

template <typename T>
void check_integers(Communicator& communicator) {
  const int n = communicator.size(), rank = communicator.rank();
  for (const size_t count : {1, 3, 8, 5000, 100'003}) {
    std::vector<T> sum(count), largest(count), average(count);
    for (size_t i = 0; i < count; ++i) {
      sum[i] = static_cast<T>(rank + static_cast<int>(i % 7));
      largest[i] = static_cast<T>((rank + static_cast<int>(i)) % n);
      average[i] = static_cast<T>(2 * rank + static_cast<int>(i % 50));
    }
    communicator.all_reduce(std::span(sum));
    communicator.all_reduce(std::span(largest), ReduceOp::kMax);
    communicator.all_reduce(std::span(average), ReduceOp::kAvg);
    for (size_t i = 0; i < count; i += 1 + count / 97) {
      const int total = n * (n - 1) / 2 + n * static_cast<int>(i % 7);
      ASSERT_EQ(sum[i], static_cast<T>(total)) << i << " of " << count;
      ASSERT_EQ(largest[i], static_cast<T>(n - 1)) << i << " of " << count;
      ASSERT_EQ(average[i], static_cast<T>(n - 1 + static_cast<int>(i % 50))) << i;
    }
  }
}

TEST_P(HierarchicalTest, AllReduceIsExactForEveryTypeAndSize) {
  run([](Communicator& communicator) {
    EXPECT_EQ(communicator.transport(), "hierarchical");
    check_integers<float>(communicator);
    check_integers<double>(communicator);
    check_integers<int32_t>(communicator);
    check_integers<int64_t>(communicator);
    check_integers<int8_t>(communicator);
    check_integers<uint8_t>(communicator);
  });
}

TEST_P(HierarchicalTest, AllRanksGetTheSameBits) {
  std::vector<std::vector<float>> results(size());
  std::vector<std::vector<BFloat16>> halves(size());
  run([&](Communicator& communicator) {
    auto& mine = results[communicator.rank()];
    mine = random_values<float>(30'011, communicator.rank());
    communicator.all_reduce(std::span(mine), ReduceOp::kAvg);
    auto& half = halves[communicator.rank()];
    half = random_values<BFloat16>(30'011, communicator.rank());
    communicator.all_reduce(std::span(half));
  });
  for (int rank = 1; rank < size(); ++rank) {
    EXPECT_TRUE(same_bits(results[0], results[rank]));
    EXPECT_TRUE(same_bits(halves[0], halves[rank]));
  }
}

TEST_P(HierarchicalTest, ReduceScatterIsExactForEveryTypeAndOperation) {
  run([](Communicator& communicator) {
    const int n = communicator.size(), rank = communicator.rank();
    const auto check = [&]<typename T>(T, size_t count) {
      std::vector<T> in(count * n), sum(count), average(count), largest(count);
      for (size_t i = 0; i < in.size(); ++i)
        in[i] = testing::narrow<T>(static_cast<decltype(testing::wide(T{}))>(2 * rank + i % 11));
      communicator.reduce_scatter(in, std::span(sum));
      communicator.reduce_scatter(in, std::span(average), ReduceOp::kAvg);
      communicator.reduce_scatter(in, std::span(largest), ReduceOp::kMax);
      for (size_t i = 0; i < count; ++i) {
        const int place = static_cast<int>((rank * count + i) % 11);
        ASSERT_EQ(static_cast<double>(testing::wide(sum[i])), n * (n - 1) + n * place);
        ASSERT_EQ(static_cast<double>(testing::wide(average[i])), n - 1 + place);
        ASSERT_EQ(static_cast<double>(testing::wide(largest[i])), 2 * (n - 1) + place);
      }
    };
    for (const size_t count : {1, 3, 5001}) {
      check(float{}, count);
      check(double{}, count);
      check(BFloat16{}, count);
      check(int32_t{}, count);
      check(uint8_t{}, count);
    }
  });
}

TEST_P(HierarchicalTest, EveryOtherCollectiveWorks) {
  run([](Communicator& communicator) {
    const int n = communicator.size(), rank = communicator.rank();
    for (const size_t count : {1, 17, 20'000}) {
      for (int root = 0; root < n; ++root) {
        std::vector<int32_t> data(count, rank == root ? 100 + root : -1);
        communicator.broadcast(std::span(data), root);
        ASSERT_EQ(std::count(data.begin(), data.end(), 100 + root), std::ssize(data)) << root;
      }
      std::vector<int32_t> mine(count, rank), all(count * n);
      communicator.all_gather(mine, std::span(all));
      std::vector<int32_t> swapped(count * n), part(count);
      communicator.all_to_all(all, std::span(swapped));
      communicator.reduce_scatter(all, std::span(part));
      for (int r = 0; r < n; ++r) {
        ASSERT_EQ(all[r * count], r);
        ASSERT_EQ(all[r * count + count - 1], r);
        ASSERT_EQ(swapped[r * count], rank) << "part `rank` of what rank " << r << " gathered";
      }
      ASSERT_EQ(part[count - 1], n * rank);
      std::vector<int32_t> gathered(count * n);
      communicator.gather(mine, std::span(gathered), n - 1);
      ASSERT_TRUE(rank != n - 1 || gathered == all);
      communicator.barrier();
    }
    int32_t message = rank;
    if (rank == 0) communicator.send(&message, sizeof(message), n - 1);
    if (rank == n - 1) {
      communicator.recv(&message, sizeof(message), 0);
      ASSERT_EQ(message, 0);
    }
  });
}

TEST_P(HierarchicalTest, SubGroupsOfOneHostOfSomeAndOfAll) {
  const auto hosts = GetParam().hosts;
  run([&](Communicator& communicator) {
    const int rank = communicator.rank();
    const auto check = [&](int color, const std::function<bool(int)>& is_member,
                           const std::string& transport) {
      const auto group = communicator.split(color, rank);
      int expected = 0, num_members = 0;
      for (int r = 0; r < communicator.size(); ++r) {
        if (is_member(r)) expected += r;
        num_members += is_member(r);
      }
      EXPECT_EQ(group->size(), num_members);
      if (!transport.empty()) {
        EXPECT_EQ(group->transport(), transport);
      }
      std::vector<int32_t> sum(10'000, rank);
      group->all_reduce(std::span(sum));
      EXPECT_EQ(sum[9'999], expected);
    };
    check(
        hosts[rank], [&](int r) { return hosts[r] == hosts[rank]; }, "shm");
    check(
        rank % 2, [&](int r) { return r % 2 == rank % 2; }, "");
    check(
        0, [](int) { return true; }, "hierarchical");
  });
}

template <typename T>
void check_tree(const std::vector<int>& hosts, ReduceOp op) {
  for (const size_t count : {1, 1000, 30'011}) {
    const Reduction<T> reduction(static_cast<int>(hosts.size()), count, op);
    const Reduction<T> scattered(static_cast<int>(hosts.size()), hosts.size() * count, op);
    const auto errors = run_on_hosts(
        hosts,
        [&](Communicator& communicator) {
          auto data = reduction.inputs[communicator.rank()];
          communicator.all_reduce(std::span(data), op);
          EXPECT_TRUE(same_bits(data, reduction.expected))
              << name_of(op) << " of " << count << " " << name_of(dtype_of<T>());
          const int rank = communicator.rank();
          std::vector<T> part(count);
          communicator.reduce_scatter(scattered.inputs[rank], std::span(part), op);
          const auto begin = scattered.expected.begin() + rank * static_cast<ptrdiff_t>(count);
          EXPECT_TRUE(same_bits(part, std::vector<T>(begin, begin + static_cast<ptrdiff_t>(count))))
              << "reduce_scatter: " << name_of(op) << " to " << count << " "
              << name_of(dtype_of<T>());
        },
        options("tree"));
    for (const auto& error : errors) EXPECT_EQ(error, "");
  }
}

TEST(HierarchicalTreeTest, AlignedBlocksGiveTheBitsOfOneTree) {
  for (const auto& hosts : {std::vector<int>{0, 0, 1, 1}, std::vector<int>{0, 0, 1, 1, 2, 2},
                            std::vector<int>{0, 0, 0, 0, 1, 1, 1, 1}}) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kAvg}) {
      check_tree<float>(hosts, op);
      check_tree<double>(hosts, op);
      check_tree<BFloat16>(hosts, op);
      check_tree<Float16>(hosts, op);
    }
  }
}

TEST(HierarchicalTreeTest, OtherBlocksAreRefused) {
  for (const auto& hosts : {std::vector<int>{0, 0, 0, 1, 1, 1}, std::vector<int>{0, 1, 0, 1},
                            std::vector<int>{0, 0, 1}}) {
    const auto errors = run_on_hosts(
        hosts, [](Communicator&) {}, options("tree"));
    for (const auto& error : errors)
      EXPECT_TRUE(contains(error, "aligned power-of-two blocks")) << error;
  }
}

TEST(HierarchicalFaultTest, DifferentCallsEndTheGroupOnEveryHost) {
  auto quick = options();
  quick.timeout = 5s;
  const auto errors = run_on_hosts(
      {0, 0, 1, 1},
      [](Communicator& communicator) {
        std::vector<float> data(50'000);
        if (communicator.rank() == 3)
          communicator.all_reduce(std::span(data).first(49'000));
        else
          communicator.all_reduce(std::span(data));
      },
      quick);
  for (const auto& error : errors)
    EXPECT_TRUE(contains(error, "ranks made different calls")) << error;
}

TEST(HierarchicalFaultTest, AnAbortReachesEveryHostAndSurvivorsGoOn) {
  const auto start = std::chrono::steady_clock::now();
  const auto errors = run_on_hosts(
      {0, 0, 1, 1},
      [](Communicator& communicator) {
        std::vector<float> data(50'000, 1.0f);
        communicator.all_reduce(std::span(data));
        if (communicator.rank() == 2) {
          std::this_thread::sleep_for(100ms);  // the others have left the first call
          communicator.abort("loss is NaN");
          return;
        }
        EXPECT_THROW(communicator.all_reduce(std::span(data)), Unavailable);
        const Survivors left = communicator.shrink();
        EXPECT_EQ(left.lost, std::vector<int>{2});
        EXPECT_EQ(left.communicator->transport(), "hierarchical");
        std::vector<int32_t> sum(20'000, 1);
        left.communicator->all_reduce(std::span(sum));
        EXPECT_EQ(sum[19'999], 3);
      },
      options());
  for (const auto& error : errors) EXPECT_EQ(error, "");
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
}

TEST(HierarchicalFaultTest, AnInterruptedAllReduceIsFinished) {
  auto kept = options();
  kept.recoverable = true;
  const auto errors = run_on_hosts(
      {0, 0, 1, 1},
      [](Communicator& communicator) {
        std::vector<float> data(200'000, static_cast<float>(1 << communicator.rank()));
        if (communicator.rank() == 1) {
          std::this_thread::sleep_for(100ms);  // the others are in the call
          communicator.abort("gone");
          return;
        }
        EXPECT_THROW(communicator.all_reduce(std::span(data)), Unavailable);
        const Survivors left = communicator.shrink();
        EXPECT_EQ(left.lost, std::vector<int>{1});
        EXPECT_EQ(left.interrupted, Survivors::Interrupted::kWithoutLost);
        EXPECT_EQ(std::count(data.begin(), data.end(), 13.0f), std::ssize(data));
      },
      kept);
  for (const auto& error : errors) EXPECT_EQ(error, "");
}

TEST(HostLayoutTest, MemoryTellsHostsApartAndTheLauncherWhereItCannot) {
  const auto place = [](uint64_t key, int rank, int size) { return RankPlace{key, rank, size}; };
  const auto by_memory =
      HostLayout::from_places({place(7, 0, 2), place(9, 0, 2), place(7, 1, 2), place(9, 1, 2)});
  EXPECT_EQ(by_memory.ranks_of(1), (std::vector<int>{1, 3}));
  EXPECT_FALSE(by_memory.is_tree());
  const auto by_launcher =
      HostLayout::from_places({place(7, 0, 2), place(7, 1, 2), place(7, 0, 2), place(7, 1, 2)});
  EXPECT_EQ(by_launcher.ranks_of(1), (std::vector<int>{2, 3}));
  EXPECT_TRUE(by_launcher.is_tree());
  EXPECT_THROW(HostLayout::from_places({place(7, 0, 2), place(7, 0, 2), place(7, 1, 2)}),
               InvalidArgument);
  const auto part = by_launcher.select({3, 0, 1});
  EXPECT_EQ(part.num_hosts(), 2);
  EXPECT_EQ(part.ranks_of(0), (std::vector<int>{0}));
  EXPECT_EQ(part.index_of(2), 1);
}

TEST(WidenTest, ThereAndBackIsTheSame) {
  const auto values = random_values<BFloat16>(1001, 3);
  std::vector<float> wide(values.size());
  std::vector<BFloat16> back(values.size());
  widen(DType::kBFloat16, reinterpret_cast<const std::byte*>(values.data()),
        reinterpret_cast<std::byte*>(wide.data()), values.size());
  narrow(DType::kBFloat16, reinterpret_cast<const std::byte*>(wide.data()),
         reinterpret_cast<std::byte*>(back.data()), values.size());
  EXPECT_TRUE(same_bits(values, back));
  EXPECT_FALSE(wide_type_of(DType::kBFloat16, ReduceOp::kMax));
  EXPECT_FALSE(wide_type_of(DType::kInt8, ReduceOp::kSum));
}

}  // namespace
}  // namespace deepseek_train::collectives
