// Groups of calls.
#include <gtest/gtest.h>

#include "collectives/algorithms/coalesce.h"
#include "tests/collectives/values.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using testing::random_values;
using testing::same_bits;

TEST(GroupTest, ResultsAreThoseOfSingleCalls) {
  test_support::run_ranks(3, [](Communicator& communicator) {
    const int me = communicator.rank();
    std::vector<std::vector<float>> grouped;
    for (const size_t count : {3u, 1000u, 0u, 70'000u, 17u, 5u})
      grouped.push_back(random_values<float>(count, static_cast<unsigned>(7 * me + count)));
    auto single = grouped;
    std::vector<int32_t> sum_of_ranks = {me};
    std::vector<float> largest = {static_cast<float>(me)};

    std::vector<CollectiveCall> calls;
    for (auto& data : grouped)
      calls.push_back({.kind = Collective::kAllReduce,
                       .in = data.data(),
                       .out = data.data(),
                       .count = data.size(),
                       .dtype = DType::kFloat32});
    calls.push_back({.kind = Collective::kAllReduce,
                     .in = sum_of_ranks.data(),
                     .out = sum_of_ranks.data(),
                     .count = 1,
                     .dtype = DType::kInt32});
    calls.push_back({.kind = Collective::kAllReduce,
                     .in = largest.data(),
                     .out = largest.data(),
                     .count = 1,
                     .dtype = DType::kFloat32,
                     .op = ReduceOp::kMax});
    communicator.start_group(calls)->wait();

    for (size_t i = 0; i < single.size(); ++i) {
      communicator.all_reduce(std::span(single[i]));
      EXPECT_TRUE(same_bits(grouped[i], single[i])) << i;
    }
    EXPECT_EQ(sum_of_ranks[0], 3);
    EXPECT_EQ(largest[0], 2.0f);
  });
}

TEST(GroupTest, SmallNeighboursOfOneKindTravelTogether) {
  std::vector<float> data(100'000);
  const auto call = [&](size_t begin, size_t count, ReduceOp op) {
    return CollectiveCall{.kind = Collective::kAllReduce,
                          .in = data.data() + begin,
                          .out = data.data() + begin,
                          .count = count,
                          .dtype = DType::kFloat32,
                          .op = op};
  };
  const CollectiveCall calls[] = {call(0, 10, ReduceOp::kSum), call(10, 20, ReduceOp::kSum),
                                  call(30, 5, ReduceOp::kMax), call(40, 90'000, ReduceOp::kSum),
                                  call(35, 1, ReduceOp::kSum)};
  std::vector<size_t> counts;
  std::vector<std::byte> scratch;
  run_coalesced(calls, scratch, [&](const CollectiveCall& sent) { counts.push_back(sent.count); });
  EXPECT_EQ(counts, (std::vector<size_t>{30, 5, 90'000, 1}));
}

TEST(GroupTest, AnEmptyGroupIsDone) {
  test_support::run_ranks(2, [](Communicator& communicator) {
    communicator.start_group({})->wait();
    communicator.barrier();
  });
}

}  // namespace
}  // namespace deepseek_train::collectives
