// Every collective on 1 to 8 ranks, over every transport.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <tuple>

#include "deepseek_train/core/error.h"
#include "tests/collectives/values.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using test_support::run_ranks;
using testing::exact_values;
using testing::random_values;
using testing::reduced;
using testing::Reduction;
using testing::same_bits;

struct Case {
  const char* transport;
  int size;
};

class CollectivesTest : public ::testing::TestWithParam<Case> {
 protected:
  int size() const { return GetParam().size; }
  CommunicatorOptions options() const {
    CommunicatorOptions options;
    options.transport = GetParam().transport;
    options.timeout = std::chrono::seconds(30);
    return options;
  }
  void run(const test_support::RankBody& body) { run_ranks(size(), body, options()); }
  // Below, at and above the sizes at which a transport changes its way: nothing, less than a rank's
  // share, a slot, chunks.
  static std::vector<size_t> counts() { return {0, 1, 7, 1023, 2048, 2049, 65536, 65537, 300'001}; }
};

template <typename T>
void check_all_reduce(Communicator& communicator, const Reduction<T>& reduction) {
  auto data = reduction.inputs[communicator.rank()];
  communicator.all_reduce(std::span(data), reduction.op);
  EXPECT_TRUE(same_bits(data, reduction.expected))
      << name_of(reduction.op) << " of " << data.size() << " " << name_of(dtype_of<T>())
      << " on rank " << communicator.rank();
}

TEST_P(CollectivesTest, AllReduceSumsInTreeOrderWhateverTheSize) {
  std::vector<Reduction<float>> reductions;
  for (size_t count : counts()) reductions.emplace_back(size(), count, ReduceOp::kSum);
  run([&](Communicator& communicator) {
    for (const auto& reduction : reductions) check_all_reduce(communicator, reduction);
  });
}

template <typename... Types>
void check_types(int size, std::initializer_list<ReduceOp> ops,
                 const std::function<void(const test_support::RankBody&)>& run) {
  for (ReduceOp op : ops) {
    for (size_t count : {1, 777, 5001}) {
      const std::tuple<Reduction<Types>...> reductions{Reduction<Types>(size, count, op)...};
      run([&](Communicator& communicator) {
        std::apply(
            [&](const auto&... reduction) { (check_all_reduce(communicator, reduction), ...); },
            reductions);
      });
    }
  }
}

TEST_P(CollectivesTest, AllReduceHandlesEveryTypeAndOperation) {
  const auto run_all = [this](const auto& body) { run(body); };
  check_types<float, double, BFloat16, Float16, int32_t, int64_t, int8_t, uint8_t>(
      size(), {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax, ReduceOp::kAvg, ReduceOp::kProd},
      run_all);
  check_types<int32_t, int64_t, int8_t, uint8_t>(size(), {ReduceOp::kAnd, ReduceOp::kOr}, run_all);
}

TEST_P(CollectivesTest, BoolsCombineAndFloatsHaveNoBits) {
  run([](Communicator& communicator) {
    const auto combined = [&](ReduceOp op) {
      bool data[] = {communicator.rank() == 0, true, false};
      communicator.all_reduce(std::span<bool>(data), op);
      return std::vector<bool>(data, data + 3);
    };
    const bool alone = communicator.size() == 1;
    EXPECT_EQ(combined(ReduceOp::kAnd), (std::vector<bool>{alone, true, false}));
    EXPECT_EQ(combined(ReduceOp::kMin), (std::vector<bool>{alone, true, false}));
    EXPECT_EQ(combined(ReduceOp::kOr), (std::vector<bool>{true, true, false}));
    float one = 1;
    EXPECT_THROW(communicator.all_reduce(std::span<float>(&one, 1), ReduceOp::kAnd), InvalidArgument);
    bool yes = true;
    EXPECT_THROW(communicator.all_reduce(std::span<bool>(&yes, 1), ReduceOp::kSum), InvalidArgument);
  });
}

TEST_P(CollectivesTest, AllReduceDoesNotDependOnHowABufferIsCut) {
  run([](Communicator& communicator) {
    const auto whole_input = random_values<float>(100'003, communicator.rank());
    auto whole = whole_input;
    communicator.all_reduce(std::span(whole));
    auto pieces = whole_input;
    for (size_t begin = 0; begin < pieces.size(); begin += 1371)
      communicator.all_reduce(
          std::span(pieces).subspan(begin, std::min<size_t>(1371, pieces.size() - begin)));
    EXPECT_TRUE(same_bits(whole, pieces));
  });
}

TEST_P(CollectivesTest, NanAndInfinityReachEveryRank) {
  run([](Communicator& communicator) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float infinity = std::numeric_limits<float>::infinity();
    const bool is_last = communicator.rank() == communicator.size() - 1;
    for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax, ReduceOp::kAvg}) {
      std::vector<float> data = {is_last ? nan : 1.0f, communicator.rank() == 0 ? nan : 1.0f, 1.0f};
      communicator.all_reduce(std::span(data), op);
      EXPECT_TRUE(std::isnan(data[0]) && std::isnan(data[1]) && !std::isnan(data[2]))
          << name_of(op);
    }
    std::vector<float> data = {is_last ? infinity : 1.0f, is_last ? -infinity : 1.0f};
    communicator.all_reduce(std::span(data));
    EXPECT_EQ(data, (std::vector<float>{infinity, -infinity}));
  });
}

TEST_P(CollectivesTest, IntegerSumsWrap) {
  run([](Communicator& communicator) {
    std::vector<int32_t> data = {std::numeric_limits<int32_t>::max()};
    communicator.all_reduce(std::span(data));
    uint32_t expected = 0;
    for (int r = 0; r < communicator.size(); ++r) expected += 0x7fffffffu;
    EXPECT_EQ(data[0], static_cast<int32_t>(expected));
  });
}

TEST_P(CollectivesTest, ReduceScatterGivesEachRankItsPart) {
  for (size_t count : counts()) {
    Reduction<float> reduction(size(), count * size(), ReduceOp::kSum);
    run([&](Communicator& communicator) {
      const auto begin = reduction.expected.begin() + count * communicator.rank();
      const std::vector<float> expected(begin, begin + count);
      auto& in = reduction.inputs[communicator.rank()];
      std::vector<float> out(count);
      communicator.reduce_scatter(in, std::span(out));
      EXPECT_TRUE(same_bits(out, expected)) << count;

      const auto part = std::span(in).subspan(count * communicator.rank(), count);
      communicator.reduce_scatter(in, part);
      EXPECT_TRUE(same_bits(std::vector<float>(part.begin(), part.end()), expected))
          << count << " in place";
    });
  }
}

TEST_P(CollectivesTest, AllGatherKeepsRankOrder) {
  run([](Communicator& communicator) {
    for (size_t count : counts()) {
      std::vector<int32_t> expected;
      for (int r = 0; r < communicator.size(); ++r) {
        const auto part = exact_values<int32_t>(count, r);
        expected.insert(expected.end(), part.begin(), part.end());
      }
      std::vector<int32_t> out(count * communicator.size());
      communicator.all_gather(exact_values<int32_t>(count, communicator.rank()), std::span(out));
      EXPECT_EQ(out, expected);

      std::vector<int32_t> in_place(expected.size());
      const auto part = std::span(in_place).subspan(count * communicator.rank(), count);
      std::copy_n(expected.begin() + count * communicator.rank(), count, part.begin());
      communicator.all_gather(part, std::span(in_place));
      EXPECT_EQ(in_place, expected);
    }
  });
}

TEST_P(CollectivesTest, BroadcastReachesAllFromAnyRoot) {
  run([](Communicator& communicator) {
    for (size_t count : counts()) {
      const int root = static_cast<int>(count % communicator.size());
      auto data = exact_values<int64_t>(count, communicator.rank());
      communicator.broadcast(std::span(data), root);
      EXPECT_EQ(data, exact_values<int64_t>(count, root));
    }
  });
}

TEST_P(CollectivesTest, BarrierWaitsForTheLastRank) {
  std::atomic<int> num_arrived = 0;
  run([&](Communicator& communicator) {
    for (int round = 1; round <= 50; ++round) {
      ++num_arrived;
      communicator.barrier();
      EXPECT_GE(num_arrived.load(), round * communicator.size());
      communicator.barrier();
    }
  });
}

TEST_P(CollectivesTest, AsyncCallsRunInOrderAndMixWithBlockingOnes) {
  run([](Communicator& communicator) {
    std::vector<std::vector<float>> buckets;
    std::vector<std::shared_ptr<Work>> works;
    for (size_t b = 0; b < 12; ++b) {
      buckets.push_back(exact_values<float>(1000 * b + 3, communicator.rank()));
      works.push_back(
          communicator.all_reduce_async(buckets[b].data(), buckets[b].size(), DType::kFloat32));
    }
    std::vector<int32_t> one = {1};
    communicator.all_reduce(std::span(one));  // queues behind the buckets
    EXPECT_EQ(one[0], communicator.size());
    EXPECT_TRUE(works.back()->is_completed());
    for (auto work = works.rbegin(); work != works.rend(); ++work) (*work)->wait();
    for (const auto& bucket : buckets) {
      std::vector<std::vector<float>> inputs;
      for (int r = 0; r < communicator.size(); ++r)
        inputs.push_back(exact_values<float>(bucket.size(), r));
      EXPECT_TRUE(same_bits(bucket, reduced(inputs, ReduceOp::kSum)));
    }
  });
}

TEST_P(CollectivesTest, MessagesGoRoundTheRing) {
  if (size() == 1) return;  // nobody to send to
  run([](Communicator& communicator) {
    const int next = (communicator.rank() + 1) % communicator.size();
    const int previous = (communicator.rank() + communicator.size() - 1) % communicator.size();
    for (size_t count : {size_t{0}, size_t{1}, size_t{16384}, size_t{200'001}}) {
      const auto mine = exact_values<int32_t>(count, communicator.rank());
      std::vector<int32_t> theirs(count);
      const auto send = [&] { communicator.send(mine.data(), count * sizeof(int32_t), next); };
      const auto recv = [&] {
        communicator.recv(theirs.data(), count * sizeof(int32_t), previous);
      };
      if (communicator.rank() == 0) {
        send();
        recv();
      } else {
        recv();
        send();
      }
      EXPECT_EQ(theirs, exact_values<int32_t>(count, previous));
    }
  });
}

TEST_P(CollectivesTest, SplitMakesIndependentGroups) {
  run([](Communicator& communicator) {
    const int color = communicator.rank() % 2;
    const auto group = communicator.split(color, -communicator.rank());  // reversed order
    const int expected_size = (communicator.size() + 1 - color) / 2;
    ASSERT_EQ(group->size(), expected_size);
    EXPECT_EQ(group->rank(), expected_size - 1 - communicator.rank() / 2);
    std::vector<int32_t> sum = {communicator.rank()};
    group->all_reduce(std::span(sum));
    int expected = 0;
    for (int r = color; r < communicator.size(); r += 2) expected += r;
    EXPECT_EQ(sum[0], expected);

    const auto nobody = communicator.split(communicator.rank() == 0 ? -1 : 3, 0);
    EXPECT_EQ(nobody == nullptr, communicator.rank() == 0);
    std::vector<int32_t> world = {1};  // the parent still works
    communicator.all_reduce(std::span(world));
    EXPECT_EQ(world[0], communicator.size());
  });
}

TEST_P(CollectivesTest, SharedBuffersReduceToTheSameBits) {
  constexpr size_t kCount = 70'003;
  const Reduction<float> reduction(size(), kCount, ReduceOp::kAvg);
  run([&](Communicator& communicator) {
    const auto first = communicator.allocate_shared(kCount * sizeof(float));
    const auto second = communicator.allocate_shared(kCount * sizeof(float));
    ASSERT_EQ(first->size_bytes(), kCount * sizeof(float));
    EXPECT_TRUE(std::ranges::all_of(first->as<float>(), [](float value) { return value == 0; }));
    const auto& mine = reduction.inputs[communicator.rank()];
    const auto& expected = reduction.expected;
    std::vector<float> private_copy = mine;
    // Rank 0 may differ in where its data lies: all shared, another offset, another arena, private.
    const auto a = first->as<float>(), b = second->as<float>();
    const bool is_zero = communicator.rank() == 0;
    const std::span<float> places[] = {
        a.first(5003), is_zero ? a.subspan(10, 5003) : a.subspan(6000, 5003),
        is_zero ? b.first(5003) : a.first(5003),
        is_zero ? std::span(private_copy).first(5003) : a.first(5003)};
    for (const auto& place : places) {
      std::copy_n(mine.begin(), place.size(), place.begin());
      communicator.all_reduce(place, ReduceOp::kAvg);
      EXPECT_TRUE(std::equal(place.begin(), place.end(), expected.begin())) << &place - places;
      communicator.barrier();
    }
    std::copy(mine.begin(), mine.end(), b.begin());
    communicator.all_reduce(b, ReduceOp::kAvg);
    EXPECT_TRUE(std::equal(b.begin(), b.end(), expected.begin()));
    communicator.barrier();
  });
}

TEST_P(CollectivesTest, TwoCommunicatorsWorkSideBySide) {
  run([](Communicator& first) {
    const auto second = first.split(0, first.rank());
    auto a = exact_values<float>(200'000, first.rank());
    auto b = exact_values<float>(100'000, first.rank() + 1);
    // Different orders on different ranks: each communicator must progress by itself.
    std::shared_ptr<Work> of_a, of_b;
    if (first.rank() % 2) of_a = first.all_reduce_async(a.data(), a.size(), DType::kFloat32);
    of_b = second->all_reduce_async(b.data(), b.size(), DType::kFloat32);
    if (first.rank() % 2 == 0) of_a = first.all_reduce_async(a.data(), a.size(), DType::kFloat32);
    of_a->wait();
    of_b->wait();
    std::vector<std::vector<float>> inputs_a, inputs_b;
    for (int r = 0; r < first.size(); ++r) {
      inputs_a.push_back(exact_values<float>(a.size(), r));
      inputs_b.push_back(exact_values<float>(b.size(), r + 1));
    }
    EXPECT_TRUE(same_bits(a, reduced(inputs_a, ReduceOp::kSum)));
    EXPECT_TRUE(same_bits(b, reduced(inputs_b, ReduceOp::kSum)));
  });
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (int size = 1; size <= 8; ++size) {
    cases.push_back({"shm", size});
    cases.push_back({"tcp", size});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Ranks, CollectivesTest, ::testing::ValuesIn(all_cases()),
                         [](const auto& info) {
                           return std::string(info.param.transport) +
                                  std::to_string(info.param.size);
                         });

}  // namespace
}  // namespace deepseek_train::collectives
