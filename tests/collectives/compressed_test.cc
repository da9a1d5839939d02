// Compressed all-reduce: its stated bound, its bytes, its memory of what was lost.
#include "deepseek_train/collectives/compressed.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "deepseek_train/core/error.h"
#include "tests/collectives/values.h"
#include "tests/support/counting_communicator.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using test_support::CountingCommunicator;
using test_support::run_ranks;
using testing::same_bits;

constexpr size_t kBlock = CompressedAllReduce::kBlock;

struct Case {
  const char* transport;
  WireFormat format;
};

class CompressedTest : public ::testing::TestWithParam<Case> {
 protected:
  CommunicatorOptions options() const {
    CommunicatorOptions options;
    options.transport = GetParam().transport;
    options.timeout = std::chrono::seconds(30);
    return options;
  }
  WireFormat format() const { return GetParam().format; }
  void run(int size, const test_support::RankBody& body) { run_ranks(size, body, options()); }

  // B of the bound, for element i.
  double b_of(const std::vector<std::vector<float>>& inputs, size_t i) const {
    double b = 0;
    for (const auto& input : inputs) {
      double largest = std::abs(input[i]);
      if (format() == WireFormat::kInt8Blocks) {
        const size_t begin = i / kBlock * kBlock;
        for (size_t k = begin; k < std::min(begin + kBlock, input.size()); ++k)
          largest = std::max<double>(largest, std::abs(input[k]));
      }
      b += largest;
    }
    return b;
  }
};

// Normal, with a few large ones among them, which are hard on their block.
std::vector<float> gradient(size_t count, int rank) {
  std::mt19937 generator(rank + 17);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (auto& value : values) value = normal(generator) * (generator() % 100 == 0 ? 50.0f : 1.0f);
  return values;
}

std::vector<std::vector<float>> gradients(size_t count, int size) {
  std::vector<std::vector<float>> inputs;
  for (int r = 0; r < size; ++r) inputs.push_back(gradient(count, r));
  return inputs;
}

double sum_of(const std::vector<std::vector<float>>& inputs, size_t i) {
  double sum = 0;
  for (const auto& input : inputs) sum += input[i];
  return sum;
}

TEST_P(CompressedTest, StaysWithinTheBoundAndIsTheSameOnAllRanks) {
  for (int size : {2, 3, 4, 8}) {
    for (size_t count : {0, 1, 255, 256, 257, 3000, 70'001}) {
      const auto inputs = gradients(count, size);
      std::vector<std::vector<float>> results(size);
      run(size, [&](Communicator& communicator) {
        CompressedAllReduce compressed(count, {.format = format()});
        auto data = inputs[communicator.rank()];
        compressed.all_reduce(communicator, data);
        results[communicator.rank()] = data;
      });
      for (int r = 1; r < size; ++r) EXPECT_TRUE(same_bits(results[r], results[0])) << r;
      double worst = 0;
      for (size_t i = 0; i < count; ++i) {
        const double bound = CompressedAllReduce::error_bound(format(), b_of(inputs, i), size);
        worst = std::max(worst, std::abs(results[0][i] - sum_of(inputs, i)) / bound);
      }
      EXPECT_LE(worst, 1.0) << size << " ranks, " << count << " values";
      // The bound is no fantasy: errors come near it.
      if (count > 1000 && size == 2) {
        EXPECT_GT(worst, 0.5);
      }
    }
  }
}

// Codes of 127 steps that the sums have too: nothing is lost.
TEST_P(CompressedTest, WhatFitsTheFormatArrivesExactly) {
  run(4, [&](Communicator& communicator) {
    std::vector<float> data(1000);
    for (size_t i = 0; i < data.size(); ++i)
      data[i] = static_cast<float>(i % 128) * (i % 2 ? -0.5f : 0.5f);
    const auto input = data;
    CompressedAllReduce compressed(data.size(), {.format = format()});
    compressed.all_reduce(communicator, data);
    for (size_t i = 0; i < data.size(); ++i) ASSERT_EQ(data[i], 4 * input[i]) << i;
    for (float lost : compressed.residual()) ASSERT_EQ(lost, 0.0f);
  });
}

TEST_P(CompressedTest, OneRankKeepsItsData) {
  run(1, [&](Communicator& communicator) {
    auto data = gradient(1000, 0);
    CompressedAllReduce compressed(data.size(), {.format = format()});
    compressed.all_reduce(communicator, data);
    EXPECT_TRUE(same_bits(data, gradient(1000, 0)));
  });
}

TEST_P(CompressedTest, SendsTheBytesItSays) {
  run(4, [&](Communicator& communicator) {
    const size_t count = 1 << 20;
    std::vector<float> data(count, 1.0f);
    CountingCommunicator plain(communicator);
    plain.all_reduce(std::span(data));
    CountingCommunicator counting(communicator);
    CompressedAllReduce compressed(count, {.format = format()});
    compressed.all_reduce(counting, data);
    const double ratio =
        static_cast<double>(plain.bytes_sent()) / static_cast<double>(counting.bytes_sent());
    EXPECT_NEAR(ratio, format() == WireFormat::kInt8Blocks ? 3.94 : 2.0, 0.005);
  });
}

// The largest difference between the mean of `num_calls` results and the exact sum.
double error_of_mean(Communicator& communicator, WireFormat format, bool has_error_feedback,
                     int num_calls) {
  const size_t count = 2000;
  const auto inputs = gradients(count, communicator.size());
  CompressedAllReduce compressed(count,
                                 {.format = format, .has_error_feedback = has_error_feedback});
  std::vector<double> total(count);
  for (int call = 0; call < num_calls; ++call) {
    auto data = inputs[communicator.rank()];
    compressed.all_reduce(communicator, data);
    for (size_t i = 0; i < count; ++i) total[i] += data[i];
  }
  double worst = 0;
  for (size_t i = 0; i < count; ++i)
    worst = std::max(worst, std::abs(total[i] / num_calls - sum_of(inputs, i)));
  return worst;
}

TEST_P(CompressedTest, ErrorFeedbackMakesTheMeanOfResultsConverge) {
  run(3, [&](Communicator& communicator) {
    const double once = error_of_mean(communicator, format(), true, 1);
    const double often = error_of_mean(communicator, format(), true, 200);
    EXPECT_LT(often, once / 50);
    // Without it the same error is made every time.
    EXPECT_GT(error_of_mean(communicator, format(), false, 200), once / 2);
  });
}

TEST_P(CompressedTest, TheResidualIsWhatIsMissing) {
  const int size = 3;
  const size_t count = 1000;
  const auto inputs = gradients(count, size);
  std::vector<std::vector<float>> residuals(size), results(size);
  run(size, [&](Communicator& communicator) {
    CompressedAllReduce compressed(count, {.format = format()});
    auto data = inputs[communicator.rank()];
    compressed.all_reduce(communicator, data);
    results[communicator.rank()] = data;
    residuals[communicator.rank()].assign(compressed.residual().begin(),
                                          compressed.residual().end());
    compressed.reset();
    for (float lost : compressed.residual()) ASSERT_EQ(lost, 0.0f);
    compressed.set_residual(residuals[communicator.rank()]);
    EXPECT_EQ(compressed.residual()[7], residuals[communicator.rank()][7]);
    EXPECT_THROW(compressed.set_residual({}), InvalidArgument);
  });
  for (size_t i = 0; i < count; ++i)
    EXPECT_NEAR(results[0][i] + sum_of(residuals, i), sum_of(inputs, i), 1e-4);
}

TEST_P(CompressedTest, NanReachesEveryRankAndIsForgottenAfterwards) {
  run(3, [&](Communicator& communicator) {
    CompressedAllReduce compressed(2000, {.format = format()});
    std::vector<float> data(2000, 1.0f);
    if (communicator.rank() == 1) data[300] = std::numeric_limits<float>::quiet_NaN();
    compressed.all_reduce(communicator, data);
    EXPECT_TRUE(std::isnan(data[300]));
    EXPECT_EQ(data[0], 3.0f);
    EXPECT_EQ(data[1999], 3.0f);
    std::fill(data.begin(), data.end(), 1.0f);
    compressed.all_reduce(communicator, data);
    EXPECT_EQ(data, std::vector<float>(2000, 3.0f));
  });
}

TEST_P(CompressedTest, WrongSizesAreRefused) {
  run(2, [&](Communicator& communicator) {
    CompressedAllReduce compressed(10, {.format = format()});
    std::vector<float> data(11);
    EXPECT_THROW(compressed.all_reduce(communicator, data), InvalidArgument);
  });
  const auto errors = test_support::errors_of_ranks(
      2,
      [&](Communicator& communicator) {
        std::vector<float> data(1000 * (1 + communicator.rank()));
        CompressedAllReduce compressed(data.size(), {.format = format()});
        compressed.all_reduce(communicator, data);
      },
      options());
  for (const auto& error : errors) EXPECT_NE(error, "");
}

INSTANTIATE_TEST_SUITE_P(
    Transports, CompressedTest,
    ::testing::Values(Case{"shm", WireFormat::kInt8Blocks}, Case{"shm", WireFormat::kBFloat16},
                      Case{"tcp", WireFormat::kInt8Blocks}, Case{"tcp", WireFormat::kBFloat16}),
    [](const auto& info) {
      return std::string(info.param.transport) +
             (info.param.format == WireFormat::kInt8Blocks ? "_int8" : "_bf16");
    });

}  // namespace
}  // namespace deepseek_train::collectives
