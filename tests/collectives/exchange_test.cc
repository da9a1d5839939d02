// all_to_all, gather, scatter, and parts of different sizes, over every transport.
#include <gtest/gtest.h>

#include <numeric>
#include <string>

#include "deepseek_train/core/error.h"
#include "tests/collectives/values.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using test_support::run_ranks;
using testing::random_values;
using testing::reduced;
using testing::same_bits;

struct Case {
  const char* transport;
  int size;
};

// The value that `from` gives `to` at place i.
int32_t letter(int from, int to, size_t i) {
  return static_cast<int32_t>(from * 1'000'003 + to * 1009 + static_cast<int>(i % 251));
}

std::vector<int32_t> part(int from, int to, size_t count) {
  std::vector<int32_t> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = letter(from, to, i);
  return values;
}

template <typename T>
void append(std::vector<T>& all, const std::vector<T>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

class ExchangeTest : public ::testing::TestWithParam<Case> {
 protected:
  int size() const { return GetParam().size; }
  CommunicatorOptions options() const {
    CommunicatorOptions options;
    options.transport = GetParam().transport;
    options.timeout = std::chrono::seconds(30);
    return options;
  }
  void run(const test_support::RankBody& body) { run_ranks(size(), body, options()); }
  // Below and above what one slot or one socket buffer holds.
  static std::vector<size_t> counts() { return {0, 1, 13, 4096, 70'001, 300'000}; }
  // Uneven, with empty parts, not symmetric.
  static size_t uneven(int from, int to) {
    return static_cast<size_t>(from * 3 + to) % 4 == 0
               ? 0
               : static_cast<size_t>(17 + from * 5003 + to * 911);
  }
};

TEST_P(ExchangeTest, AllToAllBringsEveryPartToItsRank) {
  run([](Communicator& communicator) {
    const int me = communicator.rank();
    for (const size_t count : counts()) {
      std::vector<int32_t> in, expected;
      for (int peer = 0; peer < communicator.size(); ++peer) {
        append(in, part(me, peer, count));
        append(expected, part(peer, me, count));
      }
      std::vector<int32_t> out(in.size());
      communicator.all_to_all(in, std::span(out));
      EXPECT_EQ(out, expected) << count;
    }
  });
}

TEST_P(ExchangeTest, AllToAllOfUnevenParts) {
  run([](Communicator& communicator) {
    const int me = communicator.rank();
    std::vector<int32_t> in, expected;
    CollectiveCall call{.kind = Collective::kAllToAll, .dtype = DType::kInt32};
    for (int peer = 0; peer < communicator.size(); ++peer) {
      call.in_counts.push_back(uneven(me, peer));
      call.out_counts.push_back(uneven(peer, me));
      append(in, part(me, peer, uneven(me, peer)));
      append(expected, part(peer, me, uneven(peer, me)));
    }
    std::vector<int32_t> out(expected.size());
    call.in = in.data();
    call.out = out.data();
    communicator.run(call);
    EXPECT_EQ(out, expected);
  });
}

TEST_P(ExchangeTest, GatherAndScatterWithEveryRoot) {
  run([](Communicator& communicator) {
    const int me = communicator.rank();
    for (int root = 0; root < communicator.size(); ++root) {
      for (const size_t count : {size_t{0}, size_t{5}, size_t{100'003}}) {
        std::vector<int32_t> all;
        for (int peer = 0; peer < communicator.size(); ++peer) append(all, part(peer, root, count));
        std::vector<int32_t> gathered(me == root ? all.size() : 0);
        communicator.gather(part(me, root, count), std::span(gathered), root);
        if (me == root) {
          EXPECT_EQ(gathered, all);
        }
        std::vector<int32_t> mine(count);
        communicator.scatter(me == root ? all : std::vector<int32_t>(), std::span(mine), root);
        EXPECT_EQ(mine, part(me, root, count));
      }
    }
  });
}

TEST_P(ExchangeTest, GatherAndScatterOfUnevenParts) {
  run([](Communicator& communicator) {
    const int me = communicator.rank();
    const int root = communicator.size() - 1;
    std::vector<size_t> sizes;
    std::vector<int32_t> all;
    for (int peer = 0; peer < communicator.size(); ++peer) {
      sizes.push_back(uneven(peer, root));
      append(all, part(peer, root, sizes.back()));
    }
    const auto mine = part(me, root, sizes[me]);
    std::vector<int32_t> out(me == root ? all.size() : 0);
    CollectiveCall gather{.kind = Collective::kGather,
                          .in = mine.data(),
                          .out = out.data(),
                          .count = sizes[me],
                          .dtype = DType::kInt32,
                          .root = root};
    if (me == root) gather.out_counts = sizes;
    communicator.run(gather);
    if (me == root) {
      EXPECT_EQ(out, all);
    }
    std::vector<int32_t> back(sizes[me]);
    CollectiveCall scatter{.kind = Collective::kScatter,
                           .in = all.data(),
                           .out = back.data(),
                           .count = sizes[me],
                           .dtype = DType::kInt32,
                           .root = root};
    if (me == root) scatter.in_counts = sizes;
    communicator.run(scatter);
    EXPECT_EQ(back, mine);
  });
}

TEST_P(ExchangeTest, AllGatherOfUnevenParts) {
  run([](Communicator& communicator) {
    const int me = communicator.rank();
    CollectiveCall call{.kind = Collective::kAllGather, .dtype = DType::kInt32};
    std::vector<int32_t> expected;
    for (int peer = 0; peer < communicator.size(); ++peer) {
      call.out_counts.push_back(uneven(peer, 1));
      append(expected, part(peer, 0, call.out_counts.back()));
    }
    call.count = call.out_counts[me];
    const auto mine = part(me, 0, call.count);
    std::vector<int32_t> out(expected.size());
    call.in = mine.data();
    call.out = out.data();
    communicator.run(call);
    EXPECT_EQ(out, expected);
  });
}

TEST_P(ExchangeTest, ReduceScatterOfUnevenPartsSumsInTreeOrder) {
  std::vector<size_t> sizes;
  for (int r = 0; r < size(); ++r) sizes.push_back(uneven(2, r));
  const size_t total = std::accumulate(sizes.begin(), sizes.end(), size_t{0});
  std::vector<std::vector<float>> inputs;
  for (int r = 0; r < size(); ++r) inputs.push_back(random_values<float>(total, 10 + r));
  const auto sums = reduced(inputs, ReduceOp::kSum);
  run([&](Communicator& communicator) {
    const int me = communicator.rank();
    std::vector<float> out(sizes[me]);
    communicator.run({.kind = Collective::kReduceScatter,
                      .in = inputs[me].data(),
                      .out = out.data(),
                      .count = sizes[me],
                      .dtype = DType::kFloat32,
                      .in_counts = sizes});
    const auto begin = sums.begin() + std::accumulate(sizes.begin(), sizes.begin() + me, 0L);
    EXPECT_TRUE(same_bits(out, std::vector<float>(begin, begin + sizes[me])));
  });
}

TEST_P(ExchangeTest, EightBitFloatsTravel) {
  run([](Communicator& communicator) {
    const std::vector<uint8_t> mine(3001, static_cast<uint8_t>(0x40 + communicator.rank()));
    std::vector<uint8_t> all(mine.size() * communicator.size());
    for (const auto dtype : {DType::kFloat8E4M3, DType::kFloat8E5M2, DType::kFloat8E8M0}) {
      std::fill(all.begin(), all.end(), uint8_t{0});
      communicator.run({.kind = Collective::kAllGather,
                        .in = mine.data(),
                        .out = all.data(),
                        .count = mine.size(),
                        .dtype = dtype});
      for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], 0x40 + i / mine.size());
    }
    EXPECT_THROW(communicator.run({.kind = Collective::kAllReduce,
                                   .in = all.data(),
                                   .out = all.data(),
                                   .count = 8,
                                   .dtype = DType::kFloat8E4M3}),
                 InvalidArgument);
  });
}

TEST_P(ExchangeTest, DisagreementAboutAPartNamesBothRanksAndSizes) {
  if (size() < 2) return;  // nobody to disagree with
  const auto errors = test_support::errors_of_ranks(
      size(),
      [](Communicator& communicator) {
        const int me = communicator.rank();
        const size_t n = static_cast<size_t>(communicator.size());
        CollectiveCall call{.kind = Collective::kAllToAll, .dtype = DType::kInt32};
        call.in_counts.assign(n, 4);
        call.out_counts.assign(n, 4);
        if (me == 0) call.in_counts[1] = 5;
        std::vector<int32_t> in(5 * n), out(5 * n);
        call.in = in.data();
        call.out = out.data();
        communicator.run(call);
      },
      options());
  EXPECT_NE(errors[1].find("InvalidArgument"), std::string::npos) << errors[1];
  EXPECT_NE(errors[1].find("rank 0"), std::string::npos) << errors[1];
  EXPECT_NE(errors[1].find("20 bytes"), std::string::npos) << errors[1];
  EXPECT_NE(errors[1].find("16"), std::string::npos) << errors[1];
}

TEST_P(ExchangeTest, WrongNumberOfPartsIsRefusedAndTheGroupGoesOn) {
  run([](Communicator& communicator) {
    int32_t data[4] = {};
    CollectiveCall call{
        .kind = Collective::kAllToAll, .in = data, .out = data, .dtype = DType::kInt32};
    call.in_counts.assign(communicator.size() + 1, 0);
    call.out_counts.assign(communicator.size(), 0);
    EXPECT_THROW(communicator.run(call), InvalidArgument);
    communicator.barrier();
  });
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (const char* transport : {"shm", "tcp"}) {
    for (const int size : {1, 2, 3, 4, 7}) cases.push_back({transport, size});
  }
  cases.push_back({"shm", 16});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Transports, ExchangeTest, ::testing::ValuesIn(cases()),
                         [](const auto& info) {
                           return std::string(info.param.transport) +
                                  std::to_string(info.param.size);
                         });

}  // namespace
}  // namespace deepseek_train::collectives
