// The ways of an all_reduce over streams, what they cost, and how ranks agree on that.
#include <gtest/gtest.h>

#include <ctime>
#include <filesystem>
#include <functional>
#include <map>
#include <thread>

#include "collectives/transport/tcp/cost_cache.h"
#include "collectives/transport/tcp/link_probe.h"
#include "collectives/transport/tcp/tcp_transport.h"
#include "deepseek_train/core/error.h"
#include "tests/collectives/values.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;
using testing::Reduction;
using testing::same_bits;

// Runs the body on a mesh of rank threads.
void on_mesh(int size, const std::function<void(std::unique_ptr<TcpMesh>)>& body,
             int num_streams = 1) {
  std::vector<UniqueFd> listeners;
  std::vector<Endpoint> endpoints;
  for (int rank = 0; rank < size; ++rank) {
    listeners.push_back(listen_on(Interfaces::kLoopback, 0));
    endpoints.push_back({"127.0.0.1", port_of(listeners.back())});
  }
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      MeshOptions options;
      options.rank = rank;
      options.endpoints = endpoints;
      options.launch_ranks.resize(size);
      options.key = 4711;
      options.num_streams = num_streams;
      options.timeout = 30s;
      options.streams = make_plain_streams();
      EXPECT_NO_THROW(body(std::make_unique<TcpMesh>(options, listeners[rank]))) << rank;
    });
  }
  for (auto& thread : threads) thread.join();
}

// Costs under which each way is the fastest from 4 ranks on, whatever the size.
const std::map<Way, LinkCosts> kFavouring = {
    {Way::kOnce, {.latency = 1, .message = 0, .ring_byte = 1e-15, .exchange_byte = 1e-15}},
    {Way::kDoubling, {.latency = 1, .message = 9, .ring_byte = 1e-15, .exchange_byte = 1e-15}},
    {Way::kHalving, {.latency = 1e-15, .message = 1e-3, .ring_byte = 1e-3, .exchange_byte = 1}},
    {Way::kDirect, {.latency = 1e-15, .message = 0, .ring_byte = 1, .exchange_byte = 1e-3}},
};

template <typename T>
void check(TcpTransport& transport, Way way, const Reduction<T>& reduction) {
  std::vector<T> data = reduction.inputs[transport.rank()];
  transport.run({.kind = Collective::kAllReduce,
                 .in = data.data(),
                 .out = data.data(),
                 .count = data.size(),
                 .dtype = dtype_of<T>(),
                 .op = reduction.op});
  EXPECT_TRUE(same_bits(data, reduction.expected))
      << name_of(way) << ": " << name_of(reduction.op) << " of " << data.size() << " "
      << name_of(dtype_of<T>()) << " on rank " << transport.rank() << " of " << transport.size();
}

TEST(TcpWaysTest, AllButTheRingGiveTheBitsOfOneTree) {
  for (const int size : {2, 3, 4, 8}) {
    std::vector<Reduction<float>> floats;
    for (const size_t count : {1, 15, 16, 17, 1000, 100'003})
      floats.emplace_back(size, count, ReduceOp::kSum);
    floats.emplace_back(size, 777, ReduceOp::kAvg);
    floats.emplace_back(size, 777, ReduceOp::kMax);
    const Reduction<int64_t> integers(size, 5001, ReduceOp::kAvg);
    const Reduction<BFloat16> halves(size, 5001, ReduceOp::kSum);
    for (const auto& [way, costs] : kFavouring) {
      on_mesh(size, [&, way = way, costs = costs](std::unique_ptr<TcpMesh> mesh) {
        TcpTransport transport(std::move(mesh), {.costs = costs});
        for (const auto& reduction : floats) check(transport, way, reduction);
        check(transport, way, integers);
        check(transport, way, halves);
      });
    }
  }
}

TEST(TcpWaysTest, SeveralStreamsCarryTheSameBytes) {
  for (const int num_streams : {2, 3}) {
    const Reduction<float> small(3, 100, ReduceOp::kSum), large(3, 1'000'003, ReduceOp::kSum);
    for (const Way way : {Way::kOnce, Way::kDirect}) {
      on_mesh(
          3,
          [&](std::unique_ptr<TcpMesh> mesh) {
            TcpTransport transport(std::move(mesh), {.costs = kFavouring.at(way)});
            for (int repeat = 0; repeat < 3; ++repeat) {
              check(transport, way, small);
              check(transport, way, large);
            }
          },
          num_streams);
    }
  }
}

TEST(TcpWaysTest, AnotherCallOfARankThatIsNoPartnerIsFoundToo) {
  on_mesh(8, [](std::unique_ptr<TcpMesh> mesh) {
    const int rank = mesh->rank();
    TcpTransport transport(std::move(mesh), {.costs = kFavouring.at(Way::kDoubling)});
    std::vector<float> data(rank == 5 ? 10 : 11);
    const CollectiveCall call{.kind = Collective::kAllReduce,
                              .in = data.data(),
                              .out = data.data(),
                              .count = data.size(),
                              .dtype = DType::kFloat32};
    try {
      transport.run(call);
      ADD_FAILURE() << "rank " << rank << " found nothing";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("ranks made different calls"), std::string::npos)
          << error.what();
    }
  });
}

TEST(LinkCostsTest, EachWayWinsWhereItShould) {
  const std::vector<Way> tree = {Way::kOnce, Way::kDirect, Way::kDoubling, Way::kHalving};
  for (const auto& [way, costs] : kFavouring) {
    for (const size_t bytes : {4, 1 << 10, 1 << 20})
      EXPECT_EQ(choose_way(tree, costs, 4, bytes), way) << name_of(way) << " " << bytes;
  }
  std::vector<Way> all = tree;
  all.push_back(Way::kRing);
  // 16 ranks at 100 Mbit/s that do not get on when all send to all.
  const LinkCosts slow{
      .latency = 200e-6, .message = 10e-6, .ring_byte = 84e-9, .exchange_byte = 200e-9};
  EXPECT_EQ(choose_way(all, slow, 16, 64), Way::kOnce);
  EXPECT_EQ(choose_way(all, slow, 16, 16 << 10), Way::kHalving);
  EXPECT_EQ(choose_way(all, slow, 16, 64 << 20), Way::kRing);
  EXPECT_EQ(choose_way({Way::kOnce, Way::kDirect, Way::kRing}, slow, 16, 64 << 20), Way::kRing);
  EXPECT_NEAR(predict_seconds(Way::kRing, slow, 16, 1 << 20),
              30 * 200e-6 + 1.875 * 84e-9 * (1 << 20), 1e-12);
}

constexpr LinkCosts kCosts{
    .latency = 1.25e-5, .message = 3e-6, .ring_byte = 1e-9, .exchange_byte = 2e-9};

class CostCacheTest : public ::testing::Test {
 protected:
  ~CostCacheTest() override { std::filesystem::remove_all(folder_); }
  std::string folder_ =
      join_path(::testing::TempDir(), concat("dst-costs-", test_support::unique_job_id()));
  CostCache cache_{posix_env(), folder_};
};

// What is in the cache decides how many connections a pair gets.
TEST_F(CostCacheTest, AMeshWithSeveralStreamsIsMadeAgain) {
  const int size = 2;
  std::vector<UniqueFd> listeners;
  std::vector<Endpoint> endpoints;
  for (int rank = 0; rank < size; ++rank) {
    listeners.push_back(listen_on(Interfaces::kLoopback, 0));
    endpoints.push_back({"127.0.0.1", port_of(listeners.back())});
  }
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      const MakeMesh make_mesh = [&](int num_streams) {
        MeshOptions options;
        options.rank = rank;
        options.endpoints = endpoints;
        options.launch_ranks.resize(size);
        options.key = 100 + num_streams;
        options.num_streams = num_streams;
        options.timeout = 30s;
        options.streams = make_plain_streams();
        return std::make_unique<TcpMesh>(options, listeners[rank]);
      };
      auto mesh = make_mesh(1);
      LinkCosts wide = kCosts;
      wide.num_streams = 3;
      if (rank == 0) cache_.store(mesh->describe_links(), wide);
      CostCache none(posix_env(), "");
      const LinkCosts costs = agree_on_link_costs(mesh, rank == 0 ? cache_ : none, make_mesh);
      EXPECT_EQ(costs.num_streams, 3);
      EXPECT_EQ(mesh->options().num_streams, 3);
      // Measured anew, loopback may go either way, but the mesh and the figures agree.
      mesh = make_mesh(1);
      const LinkCosts measured = agree_on_link_costs(mesh, none, make_mesh);
      EXPECT_EQ(mesh->options().num_streams, measured.num_streams);
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST_F(CostCacheTest, KeepsCostsOfEachGroupForAWeek) {
  const auto now = CostCache::Clock::now();
  EXPECT_FALSE(cache_.load("tcp, 2 ranks", now));
  cache_.store("tcp, 2 ranks", kCosts, now);
  const auto found = cache_.load("tcp, 2 ranks", now + 24h);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->latency, kCosts.latency);
  EXPECT_EQ(found->message, kCosts.message);
  EXPECT_EQ(found->ring_byte, kCosts.ring_byte);
  EXPECT_EQ(found->exchange_byte, kCosts.exchange_byte);
  EXPECT_FALSE(cache_.load("tcp, 3 ranks", now));
  EXPECT_FALSE(cache_.load("tcp, 2 ranks", now + 8 * 24h)) << "too old";
  EXPECT_FALSE(cache_.load("tcp, 2 ranks", now - 1h)) << "from the future";
}

TEST_F(CostCacheTest, WhatIsDamagedIsNotThere) {
  const std::string group = "tcp, 2 ranks";
  cache_.store(group, kCosts);
  const std::string whole = read_text(posix_env(), cache_.path_of(group));
  for (const std::string& damaged :
       {std::string(), whole.substr(0, whole.size() / 2), whole.substr(0, whole.size() - 12),
        "another format\n" + whole,
        std::string("deepseek_train link costs 1\n") + group + "\n" +
            std::to_string(std::time(nullptr)) + "\n1e-5 -1 1e-9 1e-9 1\n",
        std::string("deepseek_train link costs 1\n") + group + "\n" +
            std::to_string(std::time(nullptr)) + "\n0 0 1e-9 1e-9 1\n"}) {
    write_text(posix_env(), cache_.path_of(group), damaged);
    EXPECT_FALSE(cache_.load(group)) << damaged;
  }
}

TEST_F(CostCacheTest, AFolderThatCannotBeMadeOrNoFolderIsNoError) {
  write_text(posix_env(), folder_, "a file");
  cache_.store("tcp", kCosts);
  EXPECT_FALSE(cache_.load("tcp"));
  CostCache nowhere(posix_env(), "");
  nowhere.store("tcp", kCosts);
  EXPECT_FALSE(nowhere.load("tcp"));
}

TEST_F(CostCacheTest, AllRanksUseRankZerosFigures) {
  std::vector<LinkCosts> first(3), second(3);
  const auto agree = [&](std::vector<LinkCosts>& costs) {
    on_mesh(3, [&](std::unique_ptr<TcpMesh> mesh) {
      const int rank = mesh->rank();
      // The others have a cache with other figures, or none.
      CostCache mine(posix_env(), rank == 0 ? folder_ : concat(folder_, ".", rank));
      if (rank == 1) mine.store(mesh->describe_links(), kCosts);
      costs[rank] = agree_on_link_costs(mesh, mine);
      std::filesystem::remove_all(concat(folder_, ".", rank));
    });
  };
  agree(first);
  agree(second);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_GT(first[rank].latency, 0);
    EXPECT_GT(first[rank].ring_byte, 0);
    EXPECT_EQ(first[rank].latency, first[0].latency);
    EXPECT_EQ(first[rank].message, first[0].message);
    EXPECT_EQ(first[rank].ring_byte, first[0].ring_byte);
    EXPECT_EQ(first[rank].exchange_byte, first[0].exchange_byte);
    // From the file: nine digits.
    EXPECT_NEAR(second[rank].latency, first[0].latency, 1e-8 * first[0].latency);
    EXPECT_EQ(second[rank].latency, second[0].latency);
  }
}

}  // namespace
}  // namespace deepseek_train::collectives
