#include "deepseek_train/collectives/torch/tensors.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "deepseek_train/core/error.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using test_support::run_ranks;

CommunicatorOptions over(const char* transport) {
  CommunicatorOptions options;
  options.transport = transport;
  return options;
}

// Row r of [size, 5] is full of 10 * rank + r.
at::Tensor rows(Communicator& communicator, at::ScalarType type) {
  return (torch::arange(communicator.size()).unsqueeze(1).repeat({1, 5}) +
          10 * communicator.rank())
      .to(type);
}

void expect_equal(const at::Tensor& found, const at::Tensor& wanted) {
  EXPECT_TRUE(at::equal(found, wanted)) << found << "\nwanted\n" << wanted;
}

TEST(TensorsTest, EveryCollectiveOnEveryType) {
  for (const char* transport : {"shm", "tcp"}) {
    run_ranks(
        3,
        [](Communicator& communicator) {
          for (auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kInt, at::kLong,
                            at::kChar, at::kByte}) {
            auto data = rows(communicator, type);
            all_reduce(communicator, data);  // 10 * (0 + 1 + 2) + 3r
            expect_equal(data.select(1, 4), torch::tensor({30, 33, 36}).to(type));
            data = rows(communicator, type);
            all_reduce(communicator, data, ReduceOp::kMax);
            expect_equal(data.select(1, 0), torch::tensor({20, 21, 22}).to(type));

            auto part = torch::empty({5}, type);
            reduce_scatter(communicator, rows(communicator, type), part);
            expect_equal(part, torch::full({5}, 30 + 3 * communicator.rank(), type));

            auto all = torch::empty({3, 5}, type);
            all_gather(communicator, rows(communicator, type).select(0, 1).contiguous(), all);
            expect_equal(all.select(1, 2), torch::tensor({1, 11, 21}).to(type));

            all_to_all(communicator, rows(communicator, type), all);
            expect_equal(all.select(1, 3),
                         (10 * torch::arange(3) + communicator.rank()).to(type));

            data = rows(communicator, type);
            broadcast(communicator, data, 2);
            expect_equal(data.select(1, 0), torch::tensor({20, 21, 22}).to(type));
          }
        },
        over(transport));
  }
}

// Rank r sends r + s rows of two elements to rank s.
TEST(TensorsTest, AllToAllOfUnevenParts) {
  for (const char* transport : {"shm", "tcp"}) {
    run_ranks(
        3,
        [](Communicator& communicator) {
          const int rank = communicator.rank();
          std::vector<int64_t> rows;
          std::vector<at::Tensor> sent, wanted;
          for (int other = 0; other < 3; ++other) {
            rows.push_back(rank + other);
            sent.push_back(torch::full({rank + other, 2}, 10 * rank + other));
            wanted.push_back(torch::full({rank + other, 2}, 10 * other + rank));
          }
          auto out = torch::empty({3 * rank + 3, 2}, at::kLong);
          all_to_all(communicator, torch::cat(sent), rows, out, rows);
          EXPECT_TRUE(torch::equal(out, torch::cat(wanted)));
          EXPECT_THROW(all_to_all(communicator, torch::cat(sent), {1, 1}, out, rows),
                       InvalidArgument);
          EXPECT_THROW(all_to_all(communicator, torch::cat(sent), {1, 1, 100}, out, rows),
                       InvalidArgument);
        },
        over(transport));
  }
}

TEST(TensorsTest, WhatCannotTravelIsRefused) {
  run_ranks(1, [](Communicator& communicator) {
    const auto refused = [&](const at::Tensor& tensor) {
      EXPECT_THROW(all_reduce(communicator, tensor), InvalidArgument);
      EXPECT_THROW(all_reduce_async(communicator, tensor), InvalidArgument);
      EXPECT_THROW(broadcast(communicator, tensor), InvalidArgument);
    };
    refused(at::Tensor());
    refused(torch::zeros({3, 4}).t());
    refused(torch::zeros({3}, at::kComplexFloat));
    refused(torch::zeros({3}, at::Device(at::kMeta)));
    EXPECT_THROW(all_gather(communicator, torch::zeros({3}), torch::zeros({4})), InvalidArgument);
    EXPECT_THROW(reduce_scatter(communicator, torch::zeros({3}), torch::zeros({4})),
                 InvalidArgument);
    EXPECT_THROW(all_to_all(communicator, torch::zeros({3}), torch::zeros({4})), InvalidArgument);
    EXPECT_THROW(all_gather(communicator, torch::zeros({3}), torch::zeros({3}, at::kInt)),
                 InvalidArgument);
  });
}

TEST(TensorsTest, TheHandleKeepsTheTensor) {
  run_ranks(2, [](Communicator& communicator) {
    auto data = torch::ones({100'000});
    auto alias = data.view({-1});
    auto work = all_reduce_async(communicator, data);
    data.reset();
    work->wait();
    EXPECT_TRUE(work->is_completed());
    EXPECT_EQ(alias.min().item<float>(), 2.0f);
  });
}

TEST(TensorsTest, AutogradSeesThatASavedValueWasChanged) {
  run_ranks(1, [](Communicator& communicator) {
    auto x = torch::ones({3}, torch::requires_grad());
    auto y = x * 2;
    auto z = (y * y).sum();  // saves y
    {
      torch::NoGradGuard no_grad;
      all_reduce(communicator, y.detach());
    }
    EXPECT_THROW(z.backward(), c10::Error);
  });
}

TEST(SharedTensorArenaTest, TensorsAreZeroedApartAndReducedInPlace) {
  run_ranks(2, [](Communicator& communicator) {
    const size_t bytes = SharedTensorArena::padded_bytes(10) +
                         SharedTensorArena::padded_bytes(12, at::kBFloat16) +
                         SharedTensorArena::padded_bytes(1, at::kLong);
    EXPECT_EQ(bytes, 3 * 64u);
    SharedTensorArena arena(communicator, bytes);
    EXPECT_TRUE(arena.is_mapped_by_peers());
    auto a = arena.allocate({2, 5});
    auto b = arena.allocate({12}, at::kBFloat16);
    auto c = arena.allocate({}, at::kLong);
    EXPECT_EQ(arena.bytes_left(), 0u);
    EXPECT_THROW(arena.allocate({1}), InvalidArgument);
    for (const auto& tensor : {a, b, c}) EXPECT_EQ(tensor.count_nonzero().item<int64_t>(), 0);
    a.fill_(1);
    all_reduce(communicator, a);
    expect_equal(a, torch::full({2, 5}, 2.0f));
    EXPECT_EQ(b.count_nonzero().item<int64_t>(), 0);
    b.fill_(communicator.rank());
    all_reduce(communicator, b.narrow(0, 3, 4));
    EXPECT_EQ(b.sum().item<float>(), 8.0f * communicator.rank() + 4);
  });
}

TEST(SharedTensorArenaTest, TensorsKeepTheMemory) {
  at::Tensor kept;
  run_ranks(1, [&](Communicator& communicator) {
    SharedTensorArena arena(communicator, 4096);
    kept = arena.allocate({1000});
    kept.fill_(3);
  });
  EXPECT_EQ(kept.sum().item<float>(), 3000.0f);
  kept.fill_(4);
}

TEST(SharedTensorArenaTest, ADeviceTheCommunicatorDoesNotReachIsRefused) {
  run_ranks(1, [&](Communicator& communicator) {
    EXPECT_THROW(SharedTensorArena(communicator, 64, at::Device(at::kCUDA, 0)), InvalidArgument);
  });
}

}  // namespace
}  // namespace deepseek_train::collectives
