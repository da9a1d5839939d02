#include "deepseek_train/data/permutation.h"

#include <cmath>
#include <map>
#include <numeric>
#include <vector>

#include "tests/data/support.h"

namespace deepseek_train::data {
namespace {

std::vector<int64_t> whole_order(int64_t size, uint64_t seed, uint64_t epoch = 0) {
  Permutation order(size, seed, epoch);
  std::vector<int64_t> places(static_cast<size_t>(size));
  for (int64_t k = 0; k < size; ++k) places[static_cast<size_t>(k)] = order(k);
  return places;
}

void expect_bijection(int64_t size, uint64_t seed) {
  std::vector<bool> seen(static_cast<size_t>(size));
  Permutation order(size, seed, 0);
  for (int64_t k = 0; k < size; ++k) {
    const int64_t sample = order(k);
    ASSERT_TRUE(0 <= sample && sample < size) << "size " << size << " place " << k;
    ASSERT_FALSE(seen[static_cast<size_t>(sample)])
        << "size " << size << ": sample " << sample << " twice";
    seen[static_cast<size_t>(sample)] = true;
  }
}

TEST(Permutation, IsABijectionForEverySizeTo2000) {
  for (int64_t size = 1; size <= 2000; ++size)
    expect_bijection(size, static_cast<uint64_t>(size) * 7);
}

TEST(Permutation, IsABijectionForSomeLargeSizes) {
  for (int64_t size : {65535, 65536, 65537, 999983, 1 << 20, (1 << 22) + 1})
    expect_bijection(size, 3);
}

// With as many samples as a 64-bit machine can name, the only exhaustive test is time itself: check
// the range, and that many places have no sample in common.
TEST(Permutation, StaysInRangeForHugeSizes) {
  for (int64_t size :
       {int64_t{1} << 33, (int64_t{1} << 33) + 1, int64_t{1000000000000}, int64_t{1} << 62}) {
    Permutation order(size, 5, 1);
    std::map<int64_t, int64_t> place_of;
    for (int64_t k = 0; k < 2000; ++k)
      for (int64_t place : {k, size - 1 - k}) {
        const int64_t sample = order(place);
        ASSERT_TRUE(0 <= sample && sample < size);
        ASSERT_TRUE(place_of.emplace(sample, place).second)
            << "sample " << sample << " twice at size " << size;
      }
  }
}

TEST(Permutation, DependsOnSeedAndEpochSeparately) {
  const auto order = whole_order(1000, 1, 2);
  EXPECT_EQ(order, whole_order(1000, 1, 2));
  for (auto [seed, epoch] : {std::pair{2, 1}, {1, 3}, {2, 2}, {0, 3}, {1, 1}}) {
    const auto other = whole_order(1000, seed, epoch);
    int equal = 0;
    for (size_t k = 0; k < order.size(); ++k) equal += order[k] == other[k];
    EXPECT_LT(equal, 12) << "seed " << seed << " epoch " << epoch;  // 1 is expected
  }
}

// Saved states name kPermutationVersion: if this fails, raise it.
TEST(Permutation, VersionOneIsFrozen) {
  EXPECT_EQ(kPermutationVersion, 1);
  EXPECT_EQ(whole_order(10, 0), (std::vector<int64_t>{9, 2, 7, 5, 1, 4, 3, 0, 8, 6}));
  EXPECT_EQ(whole_order(10, 42, 1), (std::vector<int64_t>{3, 8, 2, 6, 9, 5, 0, 7, 1, 4}));
  Permutation huge(1000000000000, 7, 3);
  EXPECT_EQ(huge(0), 431896223080);
  EXPECT_EQ(huge(999999999999), 481793697382);
}

// Chi-square of counts against a flat expectation, as standard deviations from its mean.
double chi_square_deviation(const std::vector<int64_t>& counts) {
  const double total =
      static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  const double expected = total / static_cast<double>(counts.size());
  double sum = 0;
  for (int64_t count : counts)
    sum += (static_cast<double>(count) - expected) * (static_cast<double>(count) - expected) /
           expected;
  const double freedom = static_cast<double>(counts.size()) - 1;
  return (sum - freedom) / std::sqrt(2 * freedom);
}

// All orders of a few samples, over many seeds: an affine map, an even-only network or too few
// rounds fail here.
TEST(Permutation, EveryOrderOfFewSamplesIsEquallyLikely) {
  for (int64_t size : {2, 3, 4, 5, 6}) {
    std::map<std::vector<int64_t>, int64_t> seen;
    for (uint64_t seed = 0; seed < 60000; ++seed) ++seen[whole_order(size, seed)];
    std::vector<int64_t> counts;
    for (const auto& [order, count] : seen) counts.push_back(count);
    EXPECT_EQ(counts.size(), static_cast<size_t>(std::tgamma(static_cast<double>(size) + 1) + 0.5));
    EXPECT_LT(std::abs(chi_square_deviation(counts)), 5) << "size " << size;
  }
}

// Where a place's sample falls, and how far its neighbour's sample lies from it, are both uniform.
TEST(Permutation, NeighboursAreUnrelated) {
  for (int64_t size : {int64_t{1000003}, int64_t{1} << 33}) {
    constexpr int64_t kCells = 256;
    std::vector<int64_t> cells(kCells), steps(kCells), pairs(32 * 32);
    Permutation order(size, 11, 0);
    auto cell = [size](int64_t sample, int64_t count) {
      return static_cast<size_t>(static_cast<double>(sample) / static_cast<double>(size) *
                                 static_cast<double>(count));
    };
    for (int64_t k = 0; k < 200000; ++k) {
      const int64_t sample = order(k), after = order(k + 1);
      ++cells[cell(sample, kCells)];
      ++steps[cell((after - sample + size) % size, kCells)];
      ++pairs[cell(sample, 32) * 32 + cell(after, 32)];
    }
    EXPECT_LT(std::abs(chi_square_deviation(cells)), 5) << size;
    EXPECT_LT(std::abs(chi_square_deviation(steps)), 5) << size;
    EXPECT_LT(std::abs(chi_square_deviation(pairs)), 5) << size;
  }
}

TEST(Permutation, RefusesSizesThatCannotBe) {
  expect_error<InvalidArgument>([] { Permutation(0, 0, 0); }, {"0 elements", "1 to 2^62"});
  expect_error<InvalidArgument>([] { Permutation((int64_t{1} << 62) + 1, 0, 0); }, {"2^62"});
}

}  // namespace
}  // namespace deepseek_train::data
