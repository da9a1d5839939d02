// Exact mode over ranks: the same terms give the same bits however they are spread.
#include <gtest/gtest.h>

#include <algorithm>

#include "deepseek_train/collectives/exact.h"
#include "deepseek_train/core/error.h"
#include "tests/collectives/exact_reference.h"
#include "tests/collectives/values.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using test_support::run_ranks;
using testing::hard_values;
using testing::reference_sum;
using testing::same_bits;

class ExactAllReduceTest : public ::testing::TestWithParam<const char*> {
 protected:
  CommunicatorOptions options() const {
    CommunicatorOptions options;
    options.transport = GetParam();
    options.timeout = std::chrono::seconds(30);
    return options;
  }
};

// terms[k][i], and what they must add up to.
template <typename T>
struct Terms {
  Terms(size_t num_terms, size_t count) : terms(num_terms, std::vector<T>(count)) {
    std::mt19937 generator(3);
    for (size_t i = 0; i < count; ++i) {
      const auto values = hard_values<T>(generator, num_terms, i % 2 ? 5 : 100);
      for (size_t k = 0; k < num_terms; ++k) terms[k][i] = values[k];
      expected.push_back(reference_sum(values));
    }
  }
  std::vector<std::vector<T>> terms;
  std::vector<T> expected;
};

template <typename T>
void expect_same_for_all_sizes(const CommunicatorOptions& options) {
  const Terms<T> all(24, 333);
  for (int size : {1, 2, 3, 4, 8}) {
    for (int rotation : {0, 1, 5}) {
      run_ranks(
          size,
          [&](Communicator& communicator) {
            std::vector<std::span<const T>> mine;
            for (size_t k = 0; k < all.terms.size(); ++k) {
              if (static_cast<int>(k + rotation) % size == communicator.rank())
                mine.emplace_back(all.terms[k]);
            }
            std::vector<T> sum(all.expected.size());
            all_reduce_exact(communicator, std::span<const std::span<const T>>(mine),
                             std::span(sum));
            EXPECT_TRUE(same_bits(sum, all.expected)) << size << " ranks";
          },
          options);
    }
  }
}

TEST_P(ExactAllReduceTest, FloatSumsDoNotDependOnTheNumberOfRanks) {
  expect_same_for_all_sizes<float>(options());
}
TEST_P(ExactAllReduceTest, DoubleSumsDoNotDependOnTheNumberOfRanks) {
  expect_same_for_all_sizes<double>(options());
}

// Every permutation of who holds what.
TEST_P(ExactAllReduceTest, RanksMayBePermuted) {
  run_ranks(
      4,
      [](Communicator& communicator) {
        std::vector<double> values = {1e16, 1, -1e16, 1e-3};
        std::sort(values.begin(), values.end());
        do {
          std::vector<double> data(3, values[communicator.rank()]);
          all_reduce_exact(communicator, std::span(data));
          EXPECT_EQ(data, std::vector<double>(3, 1.001));
        } while (std::next_permutation(values.begin(), values.end()));
      },
      options());
}

// More than one chunk, slices that are empty, a last one that is shorter.
TEST_P(ExactAllReduceTest, EverySizeInPlace) {
  for (int size : {1, 2, 3, 5}) {
    run_ranks(
        size,
        [&](Communicator& communicator) {
          for (size_t count : {0, 1, 2, 63, 1000, 1'500'001}) {
            std::vector<float> data(count);
            for (size_t i = 0; i < count; ++i)
              data[i] = static_cast<float>(i % 1021) + 1000 * communicator.rank();
            all_reduce_exact(communicator, std::span(data));
            const int rank_sum = 1000 * size * (size - 1) / 2;
            for (size_t i = 0; i < count; ++i)
              ASSERT_EQ(data[i], static_cast<float>(i % 1021 * size + rank_sum)) << i;
          }
        },
        options());
  }
}

TEST_P(ExactAllReduceTest, RanksMayBringDifferentNumbersOfTerms) {
  run_ranks(
      3,
      [](Communicator& communicator) {
        // Rank 0 none, rank 1 one, rank 2 two: 1 + 2 + 2.
        const std::vector<float> term(100'000, static_cast<float>(communicator.rank()));
        const std::vector<std::span<const float>> terms(communicator.rank(), term);
        std::vector<float> sum(term.size(), -1.0f);
        all_reduce_exact(communicator, std::span(terms), std::span(sum));
        EXPECT_EQ(sum, std::vector<float>(term.size(), 5.0f));
      },
      options());
}

TEST_P(ExactAllReduceTest, SizesThatDifferAreOneErrorOnAllRanks) {
  const auto errors = test_support::errors_of_ranks(
      3,
      [](Communicator& communicator) {
        std::vector<float> data(communicator.rank() == 1 ? 5 : 6);
        all_reduce_exact(communicator, std::span(data));
      },
      options());
  for (const auto& error : errors)
    EXPECT_EQ(error,
              "InvalidArgument: all_reduce_exact: rank 1 sums 5 elements, rank 0 6; all must sum "
              "the same number");
}

TEST_P(ExactAllReduceTest, ATermOfAnotherSizeIsOneErrorOnAllRanks) {
  const auto errors = test_support::errors_of_ranks(
      2,
      [](Communicator& communicator) {
        const std::vector<float> term(communicator.rank() == 1 ? 5 : 6);
        const std::span<const float> terms[] = {term};
        std::vector<float> sum(6);
        all_reduce_exact(communicator, terms, std::span(sum));
      },
      options());
  for (const auto& error : errors)
    EXPECT_EQ(error,
              "InvalidArgument: all_reduce_exact: rank 1 has a term of 5 elements; the sum has 6");
}

INSTANTIATE_TEST_SUITE_P(Transports, ExactAllReduceTest, ::testing::Values("shm", "tcp"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace deepseek_train::collectives
