// The ring's own order of summation, bit by bit, against a sequential model of it.
#include <gtest/gtest.h>

#include "collectives/algorithms/partition.h"
#include "tests/collectives/values.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using testing::combine;
using testing::narrow;
using testing::random_values;
using testing::same_bits;
using testing::wide;

// Slice s is summed left to right from rank s on, and rounded to the element type at every hop.
template <typename T>
std::vector<T> ring_model(const std::vector<std::vector<T>>& inputs, ReduceOp op) {
  const int num_ranks = static_cast<int>(inputs.size());
  std::vector<T> result(inputs[0].size());
  for (int s = 0; s < num_ranks; ++s) {
    const Slice slice = slice_of(result.size(), sizeof(T), s, num_ranks);
    for (size_t i = slice.begin; i < slice.end; ++i) {
      T sum = inputs[s][i];
      for (int hop = 1; hop < num_ranks; ++hop)
        sum = narrow<T>(combine(wide(sum), wide(inputs[(s + hop) % num_ranks][i]), op));
      if (op == ReduceOp::kAvg && num_ranks > 1)
        sum = narrow<T>(wide(sum) / static_cast<decltype(wide(sum))>(num_ranks));
      result[i] = sum;
    }
  }
  return result;
}

template <typename T>
void check_ring(int num_ranks, size_t count, ReduceOp op) {
  std::vector<std::vector<T>> inputs;
  for (int r = 0; r < num_ranks; ++r) inputs.push_back(random_values<T>(count, r + 7));
  const auto expected = ring_model(inputs, op);
  CommunicatorOptions options;
  options.transport = "tcp";
  options.algorithm = "ring";
  options.timeout = std::chrono::seconds(30);
  test_support::run_ranks(
      num_ranks,
      [&](Communicator& communicator) {
        for (int repeat = 0; repeat < 2; ++repeat) {
          auto data = inputs[communicator.rank()];
          communicator.all_reduce(std::span(data), op);
          EXPECT_TRUE(same_bits(data, expected)) << num_ranks << " ranks, " << name_of(op) << " of "
                                                 << count << " " << name_of(dtype_of<T>());
        }
      },
      options);
}

TEST(RingTest, FollowsItsDocumentedOrderOnAnyNumberOfRanks) {
  for (int num_ranks = 1; num_ranks <= 8; ++num_ranks) {
    for (size_t count : {0, 1, 15, 17, 1000, 100'003})
      check_ring<float>(num_ranks, count, ReduceOp::kSum);
  }
}

TEST(RingTest, HandlesBuffersLargerThanAllSocketBuffers) {
  check_ring<float>(3, 5'000'011, ReduceOp::kSum);
}

TEST(RingTest, HandlesEveryTypeAndOperation) {
  for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax, ReduceOp::kAvg}) {
    check_ring<double>(3, 5001, op);
    check_ring<BFloat16>(3, 5001, op);
    check_ring<Float16>(3, 5001, op);
    check_ring<int32_t>(3, 5001, op);
    check_ring<int64_t>(3, 5001, op);
  }
}

}  // namespace
}  // namespace deepseek_train::collectives
