// All ranks as threads on ONE mapping of the segment, so that ThreadSanitizer sees both sides of
// every access (mapped once a rank, the same bytes have different addresses, and no race is ever
// seen). Meant for -DDST_SANITIZE=thread; elsewhere it checks values only.
//
// That the tool can see a missing fence at all is proven by PlantedMissingFence: it moves a message
// as messages.cc does, but counts it with a relaxed store. Under ThreadSanitizer ctest runs it as
// collectives_shm_planted_race and wants it to fail.
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "collectives/algorithms/partition.h"
#include "collectives/transport/shm/shm_transport.h"
#include "tests/collectives/values.h"

namespace deepseek_train::collectives {
namespace {

using testing::Reduction;
using testing::same_bits;

// A segment as join_segment leaves it, in this process's own memory.
class OneMapping {
 public:
  explicit OneMapping(int size)
      : size_(size), memory_((SegmentLayout::total_bytes(size) + 4095) / 4096) {
    for (int r = 0; r < size; ++r) {
      layout().rank(r).process = this_process();
      layout().rank(r).presence = Presence::kAttached;
    }
  }
  SegmentLayout layout() { return {memory_[0].bytes, size_}; }
  Mapping view() { return Mapping::borrow(memory_[0].bytes, memory_.size() * sizeof(Page)); }

 private:
  struct alignas(4096) Page {
    std::byte bytes[4096] = {};
  };
  int size_;
  std::vector<Page> memory_;
};

template <typename Body>
void run_threads(int size, const Body& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) threads.emplace_back([&body, rank] { body(rank); });
  for (auto& thread : threads) thread.join();
}

ShmTransportOptions options_for(int rank, int size) {
  ShmTransportOptions options;
  options.rank = rank;
  options.size = size;
  options.private_way = PrivateWay::kStaged;
  return options;
}

TEST(ShmRaceTest, CollectivesOnPrivateMemory) {
  for (const int size : {2, 3, 4}) {
    OneMapping segment(size);
    std::vector<Reduction<float>> reductions;
    for (size_t count : {1, 2000, 3000, 70'000, 300'000})
      reductions.emplace_back(size, count, ReduceOp::kSum);
    run_threads(size, [&](int rank) {
      ShmTransport transport(options_for(rank, size), segment.view());
      for (int repeat = 0; repeat < 4; ++repeat) {
        for (const auto& reduction : reductions) {
          auto data = reduction.inputs[rank];
          transport.run({.kind = Collective::kAllReduce,
                         .in = data.data(),
                         .out = data.data(),
                         .count = data.size(),
                         .dtype = DType::kFloat32});
          EXPECT_TRUE(same_bits(data, reduction.expected));
          transport.run({.kind = Collective::kBroadcast,
                         .in = data.data(),
                         .out = data.data(),
                         .count = data.size(),
                         .dtype = DType::kFloat32,
                         .root = size - 1});
          std::vector<float> all(data.size() * size);
          transport.run({.kind = Collective::kAllGather,
                         .in = data.data(),
                         .out = all.data(),
                         .count = data.size(),
                         .dtype = DType::kFloat32});
          EXPECT_EQ(all.back(), data.back());
        }
      }
      transport.run({});  // nobody leaves before all are through
    });
  }
}

TEST(ShmRaceTest, ExchangesAndMessages) {
  constexpr int kSize = 3;
  OneMapping segment(kSize);
  run_threads(kSize, [&](int rank) {
    ShmTransport transport(options_for(rank, kSize), segment.view());
    for (size_t bytes : {8, 1000, 100'000, 400'000, 3}) {
      std::vector<std::byte> out(bytes * kSize, std::byte(rank + 1)), in(bytes * kSize);
      std::vector<std::span<const std::byte>> out_parts;
      std::vector<std::span<std::byte>> in_parts;
      for (int r = 0; r < kSize; ++r) {
        out_parts.push_back(std::span(out).subspan(r * bytes, bytes));
        in_parts.push_back(std::span(in).subspan(r * bytes, bytes));
      }
      transport.exchange({.kind = Collective::kAllToAll, .count = bytes}, out_parts, in_parts);
      for (int r = 0; r < kSize; ++r) EXPECT_EQ(in_parts[r].back(), std::byte(r + 1));
      if (rank == 0) transport.send(out_parts[0], 1);
      if (rank == 1) {
        transport.recv(in_parts[0], 0);
        EXPECT_EQ(in[bytes - 1], std::byte{1});
      }
    }
    transport.run({});
  });
}

// The arena's way: slices through journals into all buffers, then a step.
TEST(ShmRaceTest, SlicesThroughJournals) {
  constexpr int kSize = 3;
  OneMapping segment(kSize);
  const Reduction<float> reduction(kSize, 40'003, ReduceOp::kAvg);
  auto buffers = reduction.inputs;
  run_threads(kSize, [&](int rank) {
    ShmGroup group(segment.view(), rank, kSize, std::chrono::seconds(60));
    const Slice slice = slice_of(buffers[0].size(), sizeof(float), rank, kSize);
    std::vector<std::byte*> places;
    for (auto& buffer : buffers)
      places.push_back(reinterpret_cast<std::byte*>(buffer.data() + slice.begin));
    for (uint64_t sequence = 1; sequence <= 20; ++sequence) {
      std::ranges::copy(reduction.inputs[rank], buffers[rank].begin());
      group.wait_for_all(group.advance());
      reduce_through_journal(group.layout().journal(rank), sequence,
                             {DType::kFloat32, ReduceOp::kAvg, places, slice.size()}, group, 0,
                             nullptr);
      group.wait_for_all(group.advance());
      EXPECT_TRUE(same_bits(buffers[rank], reduction.expected));
      group.wait_for_all(group.advance());
    }
  });
}

// One message a round, counted by `count`.
template <typename Count>
void pass_messages(const Count& count) {
  OneMapping segment(2);
  run_threads(2, [&](int rank) {
    ShmGroup group(segment.view(), rank, 2, std::chrono::seconds(60));
    Mailbox& mailbox = group.layout().mailbox(0);
    Counter& sent = group.layout().sent(0, 1);
    Counter& taken = group.layout().taken(0, 1);
    for (uint32_t round = 1; round <= 1000; ++round) {
      if (rank == 0) {
        mailbox.message_bytes = round;
        count(sent);
        group.wait_for(taken, round, 1);
      } else {
        group.wait_for(sent, round, 0);
        EXPECT_EQ(mailbox.message_bytes, round);
        ShmGroup::increment(taken);
      }
    }
    group.wait_for_all(group.advance());
  });
}

TEST(ShmRaceTest, FencedMessages) {
  pass_messages([](Counter& counter) { ShmGroup::increment(counter); });
}

TEST(ShmRaceTest, DISABLED_PlantedMissingFence) {
  pass_messages([](Counter& counter) {
    counter.word.store(counter.word.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  });
}

}  // namespace
}  // namespace deepseek_train::collectives
