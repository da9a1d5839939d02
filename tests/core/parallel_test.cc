#include "deepseek_train/core/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "deepseek_train/core/error.h"

namespace deepseek_train {
namespace {

TEST(ParallelForTest, EveryPieceIsDoneOnce) {
  for (const int num_threads : {1, 2, 7}) {
    for (const int64_t count : {0, 1, 5, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<size_t>(count));
      parallel_for(count, num_threads, [&](int64_t i) { ++calls[static_cast<size_t>(i)]; });
      for (const auto& number : calls) ASSERT_EQ(number, 1);
    }
  }
}

TEST(ParallelForTest, AnErrorEndsTheWorkAndIsThrownToTheCaller) {
  for (const int num_threads : {1, 3}) {
    std::atomic<int> calls = 0;
    const auto work = [&](int64_t i) {
      ++calls;
      if (i == 5) throw NotFound("piece 5");
    };
    EXPECT_THROW(parallel_for(1'000'000, num_threads, work), NotFound);
    EXPECT_LT(calls, 1'000'000);
  }
}

TEST(ParallelForTest, NoThreadIsAnError) {
  EXPECT_THROW(parallel_for(1, 0, [](int64_t) {}), InvalidArgument);
}

}  // namespace
}  // namespace deepseek_train
