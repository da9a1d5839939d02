// The personalised exchange through shared memory: all_to_all, gather, scatter, with parts of any
// size.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "deepseek_train/core/error.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using test_support::errors_of_ranks;
using test_support::run_ranks;

CommunicatorOptions options() {
  CommunicatorOptions options;
  options.transport = "shm";
  options.timeout = std::chrono::seconds(60);
  return options;
}

// What `from` sends to `to` at place i.
int32_t value_of(int from, int to, size_t i) {
  return static_cast<int32_t>(from * 1'000'003 + to * 7919 + i * 31);
}

// Sizes that depend on the pair only, so that every rank can compute all of them.
size_t uneven_count(int from, int to, size_t longest) {
  std::mt19937 generator(from * 131 + to);
  return generator() % 3 == 0 ? 0 : generator() % (longest + 1);
}

class ShmExchangeTest : public ::testing::TestWithParam<int> {
 protected:
  int size() const { return GetParam(); }
  void run(const test_support::RankBody& body) { run_ranks(size(), body, options()); }
};

void check_all_to_all(Communicator& communicator, size_t longest) {
  const int size = communicator.size(), rank = communicator.rank();
  CollectiveCall call{.kind = Collective::kAllToAll, .dtype = DType::kInt32};
  std::vector<int32_t> in, expected;
  for (int peer = 0; peer < size; ++peer) {
    call.in_counts.push_back(uneven_count(rank, peer, longest));
    call.out_counts.push_back(uneven_count(peer, rank, longest));
    for (size_t i = 0; i < call.in_counts.back(); ++i) in.push_back(value_of(rank, peer, i));
    for (size_t i = 0; i < call.out_counts.back(); ++i) expected.push_back(value_of(peer, rank, i));
  }
  std::vector<int32_t> out(expected.size() + 1, -1);
  in.push_back(0);  // never null
  call.in = in.data();
  call.out = out.data();
  communicator.run(call);
  EXPECT_EQ(out.back(), -1) << "written past the end";
  out.pop_back();
  EXPECT_EQ(out, expected);
}

TEST_P(ShmExchangeTest, UnevenPartsOfEverySizeArrive) {
  run([](Communicator& communicator) {
    for (size_t longest : {0, 1, 5, 1000, 30'000, 300'000, 17, 70'001})
      check_all_to_all(communicator, longest);
  });
}

TEST_P(ShmExchangeTest, EvenPartsArriveAmongOtherCalls) {
  run([](Communicator& communicator) {
    const int size = communicator.size(), rank = communicator.rank();
    for (size_t count : {size_t{0}, size_t{1}, size_t{4099}, size_t{100'003}}) {
      std::vector<int32_t> in(count * size), out(count * size);
      for (size_t i = 0; i < in.size(); ++i)
        in[i] = value_of(rank, static_cast<int>(i / std::max<size_t>(1, count)), i);
      communicator.all_to_all(in, std::span(out));
      for (size_t i = 0; i < out.size(); ++i) {
        const int from = static_cast<int>(i / count);
        ASSERT_EQ(out[i], value_of(from, rank, rank * count + i % count));
      }
      std::vector<int32_t> sum = {1};
      communicator.all_reduce(std::span(sum));
      ASSERT_EQ(sum[0], size);
    }
  });
}

TEST_P(ShmExchangeTest, GatherAndScatterAreInverse) {
  run([](Communicator& communicator) {
    const int size = communicator.size(), rank = communicator.rank();
    for (size_t count : {size_t{0}, size_t{1}, size_t{99'991}}) {
      const int root = static_cast<int>(count % size);
      std::vector<int32_t> mine(count), back(count), all(rank == root ? count * size : 0);
      for (size_t i = 0; i < count; ++i) mine[i] = value_of(rank, root, i);
      communicator.gather(mine, std::span(all), root);
      for (size_t i = 0; i < all.size(); ++i)
        ASSERT_EQ(all[i], value_of(static_cast<int>(i / count), root, i % count));
      communicator.scatter(all, std::span(back), root);
      EXPECT_EQ(back, mine);
    }
  });
}

TEST_P(ShmExchangeTest, UnevenReduceScatterSumsInTreeOrder) {
  run([](Communicator& communicator) {
    const int size = communicator.size(), rank = communicator.rank();
    CollectiveCall call{.kind = Collective::kReduceScatter, .dtype = DType::kInt32};
    std::vector<int32_t> in;
    for (int r = 0; r < size; ++r) {
      call.in_counts.push_back(1000 * r + 3);
      for (size_t i = 0; i < call.in_counts.back(); ++i) in.push_back(value_of(rank, r, i));
    }
    call.count = call.in_counts[rank];
    std::vector<int32_t> out(call.count);
    call.in = in.data();
    call.out = out.data();
    communicator.run(call);
    for (size_t i = 0; i < out.size(); ++i) {
      int32_t sum = 0;
      for (int r = 0; r < size; ++r) sum += value_of(r, rank, i);
      ASSERT_EQ(out[i], sum);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, ShmExchangeTest, ::testing::Values(1, 2, 3, 4, 5, 6, 7, 8, 9, 16),
                         ::testing::PrintToStringParamName());

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(ShmExchangeMismatchTest, SizesThatDisagreeNameBothRanks) {
  const auto errors = errors_of_ranks(
      3,
      [](Communicator& communicator) {
        std::vector<int32_t> in(30), out(30);
        CollectiveCall call{.kind = Collective::kAllToAll,
                            .in = in.data(),
                            .out = out.data(),
                            .dtype = DType::kInt32};
        call.in_counts = {4, 4, 4};
        call.out_counts = {4, 4, 4};
        if (communicator.rank() == 2) call.out_counts[1] = 5;
        communicator.run(call);
        communicator.barrier();
      },
      options());
  EXPECT_TRUE(contains(errors[2], "InvalidArgument: rank 1 (pid ")) << errors[2];
  for (const auto& error : errors) {
    EXPECT_TRUE(contains(error, "sends 16 bytes to rank 2 (pid ")) << error;
    EXPECT_TRUE(contains(error, "which wants 20 in all_to_all #1 (parts of int32")) << error;
  }
}

TEST(ShmExchangeMismatchTest, OtherCallsAreFound) {
  const auto errors = errors_of_ranks(
      3,
      [](Communicator& communicator) {
        std::vector<int32_t> in(30), out(30);
        if (communicator.rank() == 0)
          communicator.all_to_all(std::span<const int32_t>(in), std::span(out));
        else
          communicator.gather(std::span<const int32_t>(in).first(10), std::span(out), 1);
      },
      options());
  for (const auto& error : errors) {
    EXPECT_TRUE(contains(error, "ranks made different calls")) << error;
    EXPECT_TRUE(contains(error, "all_to_all #1 (10 int32 per rank)")) << error;
    EXPECT_TRUE(contains(error, "gather #1 (10 int32 to rank 1)")) << error;
  }
}

// 2 GiB and a little more on one part: sizes must not pass through 32 bits anywhere.
TEST(ShmExchangeLargeTest, APartOverTwoGibibytesArrives) {
  if (!std::getenv("DST_LONG_TESTS")) GTEST_SKIP() << "needs 9 GiB; DST_LONG_TESTS=1 runs it";
  run_ranks(
      2,
      [](Communicator& communicator) {
        const size_t count = (size_t{1} << 31) + 77;
        std::vector<int8_t> mine(communicator.rank() == 1 ? count : 1);
        std::vector<int8_t> all(communicator.rank() == 0 ? count + 1 : 0);
        for (size_t i = 0; i < mine.size(); ++i) mine[i] = static_cast<int8_t>(i * 13 % 127);
        CollectiveCall call{.kind = Collective::kGather,
                            .in = mine.data(),
                            .out = all.data(),
                            .count = mine.size(),
                            .dtype = DType::kInt8};
        if (communicator.rank() == 0) call.out_counts = {1, count};
        communicator.run(call);
        for (size_t i = 1; i < all.size(); ++i)
          ASSERT_EQ(all[i], static_cast<int8_t>((i - 1) * 13 % 127)) << i;
      },
      options());
}

}  // namespace
}  // namespace deepseek_train::collectives
