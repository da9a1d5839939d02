// Host-reduced all-reduce over the model of CUDA: chunks, slots and streams.
#include "collectives/backends/nccl/host_reduced.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "tests/collectives/fake_gpu.h"
#include "tests/collectives/values.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using test_support::run_ranks;
using testing::fake_gpu_api;
using testing::random_values;
using testing::same_bits;

constexpr size_t kChunkBytes = 4096;

// Fewer chunks than slots, as many, more, and a last one that is cut.
TEST(HostReducedTest, GivesTheBitsOfTheHostsAllReduce) {
  for (int size : {1, 2, 3, 4}) {
    run_ranks(size, [](Communicator& communicator) {
      const auto api = fake_gpu_api();
      const auto reduced = make_host_reduced_all_reduce(
          api, communicator, {.device = communicator.rank(), .chunk_bytes = kChunkBytes});
      for (size_t count : {0, 1, 1023, 1024, 1025, 4096, 5000, 20'001}) {
        auto expected = random_values<float>(count, communicator.rank());
        auto data = expected;
        reduced->all_reduce(data.data(), count, DType::kFloat32);
        communicator.all_reduce(std::span(expected));
        EXPECT_TRUE(same_bits(data, expected)) << count;
      }
      auto half = random_values<BFloat16>(3000, communicator.rank());
      auto expected = half;
      reduced->all_reduce(half.data(), half.size(), DType::kBFloat16, ReduceOp::kAvg);
      communicator.all_reduce(std::span(expected), ReduceOp::kAvg);
      EXPECT_TRUE(same_bits(half, expected));
    });
  }
}

TEST(HostReducedTest, WaitsForTheCallersStream) {
  run_ranks(2, [](Communicator& communicator) {
    const auto api = fake_gpu_api();
    UniqueStream stream(api);
    const auto reduced = make_host_reduced_all_reduce(
        api, communicator, {.stream = stream.get(), .chunk_bytes = kChunkBytes});
    std::vector<int32_t> source(3000, 5), data(3000, 0);
    for (int i = 0; i < 100; ++i)
      api->cuda.memcpy_async(data.data(), source.data(), 12'000, cudaMemcpyDeviceToDevice,
                             stream.get());
    reduced->all_reduce(data.data(), data.size(), DType::kInt32);
    EXPECT_EQ(data, std::vector<int32_t>(3000, 10));
  });
}

TEST(HostReducedTest, MistakesAreRefusedAndTheGroupGoesOn) {
  run_ranks(2, [](Communicator& communicator) {
    const auto api = fake_gpu_api();
    EXPECT_THROW(make_host_reduced_all_reduce(api, communicator, {.chunk_bytes = 100}),
                 InvalidArgument);
    const auto reduced =
        make_host_reduced_all_reduce(api, communicator, {.chunk_bytes = kChunkBytes});
    EXPECT_THROW(reduced->all_reduce(nullptr, 1, DType::kFloat32), InvalidArgument);
    float value = 1;
    EXPECT_THROW(reduced->all_reduce(&value, 1, DType::kFloat8E4M3), InvalidArgument);
    reduced->all_reduce(&value, 1, DType::kFloat32);
    EXPECT_EQ(value, 2);
  });
}

TEST(HostReducedTest, AnotherRanksAbortEndsIt) {
  const auto errors = test_support::errors_of_ranks(2, [](Communicator& communicator) {
    const auto reduced =
        make_host_reduced_all_reduce(fake_gpu_api(), communicator, {.chunk_bytes = kChunkBytes});
    if (communicator.rank() == 1) return communicator.abort("no toner");
    std::vector<float> data(5000);
    reduced->all_reduce(data.data(), data.size(), DType::kFloat32);
  });
  EXPECT_TRUE(errors[0].starts_with("PeerFailure: ")) << errors[0];
  EXPECT_NE(errors[0].find("no toner"), std::string::npos) << errors[0];
}

}  // namespace
}  // namespace deepseek_train::collectives
