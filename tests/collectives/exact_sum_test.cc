// The kernel of exact mode against long arithmetic.
#include "collectives/algorithms/exact_sum.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "collectives/algorithms/exact_sum_accumulator.h"
#include "tests/collectives/exact_reference.h"

namespace deepseek_train::collectives {
namespace {

using testing::hard_values;
using testing::reference_sum;

template <typename T>
class ExactSumTest : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ExactSumTest, Types);

template <typename T>
bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

template <typename T>
T sum_of(const std::vector<T>& values) {
  std::vector<const T*> terms;
  for (const T& value : values) terms.push_back(&value);
  T sum = 42;
  exact_sum(terms, &sum, 1);
  return sum;
}

template <typename T>
std::string text_of(const std::vector<T>& values) {
  std::string text;
  char buffer[64];
  for (T value : values) {
    std::snprintf(buffer, sizeof(buffer), "%a ", static_cast<double>(value));
    text += buffer;
  }
  return text;
}

// In the order given and in others.
template <typename T>
void expect_reference(std::vector<T> values) {
  const T expected = reference_sum(values);
  std::mt19937 generator(7);
  for (int order = 0; order < 4; ++order) {
    const T sum = sum_of(values);
    ASSERT_TRUE(same_bits(sum, expected))
        << sum << ", wanted " << expected << ": " << text_of(values);
    std::shuffle(values.begin(), values.end(), generator);
  }
}

TYPED_TEST(ExactSumTest, SmallNumbersSurviveLargeOnesThatCancel) {
  using T = TypeParam;
  EXPECT_EQ(sum_of<T>({T{1e16}, T{1}, T{-1e16}}), T{1});
  EXPECT_EQ(sum_of<T>({T{1}, T{1e30}, T{1}, T{-1e30}}), T{2});
}

TYPED_TEST(ExactSumTest, OverflowOnTheWayIsNoOverflow) {
  using T = TypeParam;
  const T max = std::numeric_limits<T>::max();
  const T infinity = std::numeric_limits<T>::infinity();
  EXPECT_EQ(sum_of<T>({max, max, -max}), max);
  EXPECT_EQ(sum_of<T>({-max, -max, max, max}), T{0});
  EXPECT_EQ(sum_of<T>({max, max}), infinity);
  // Half a unit beyond the largest number is a tie, and rounds to infinity; less does not.
  const T half_unit =
      std::ldexp(T{1}, std::numeric_limits<T>::max_exponent - std::numeric_limits<T>::digits - 1);
  EXPECT_EQ(sum_of<T>({max, half_unit}), infinity);
  EXPECT_EQ(sum_of<T>({max, std::nextafter(half_unit, T{0})}), max);
  EXPECT_EQ(sum_of<T>({-max, -half_unit}), -infinity);
}

TYPED_TEST(ExactSumTest, SpecialValuesInEveryOrder) {
  using T = TypeParam;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const T infinity = std::numeric_limits<T>::infinity();
  const T smallest = std::numeric_limits<T>::denorm_min();
  const T normal = std::numeric_limits<T>::min();
  for (const std::vector<T>& values : std::vector<std::vector<T>>{{nan, 1},
                                                                  {-nan, 1},
                                                                  {infinity, 1, -5},
                                                                  {-infinity, 1},
                                                                  {infinity, -infinity, 3},
                                                                  {nan, infinity},
                                                                  {T{-0.0}},
                                                                  {T{-0.0}, T{-0.0}},
                                                                  {T{-0.0}, T{0.0}},
                                                                  {1, -1, T{-0.0}},
                                                                  {smallest, smallest, smallest},
                                                                  {normal, -smallest},
                                                                  {-normal, smallest, 1, -1},
                                                                  {smallest, -smallest},
                                                                  {1, smallest},
                                                                  {1, smallest, -1},
                                                                  {}})
    expect_reference(values);
}

TYPED_TEST(ExactSumTest, TiesGoToEven) {
  using T = TypeParam;
  const T unit = std::numeric_limits<T>::epsilon();
  const T tiny = std::numeric_limits<T>::denorm_min();
  for (T sign : {T{1}, T{-1}}) {
    for (T base : {T{1}, 1 + unit, 1 + 2 * unit, 2 - unit}) {
      for (T below : {T{0}, tiny, -tiny})
        expect_reference<T>({sign * base, sign * unit / 2, below});
    }
  }
}

TYPED_TEST(ExactSumTest, RandomSumsEqualLongArithmetic) {
  using T = TypeParam;
  std::mt19937 generator(1);
  const int widest = std::numeric_limits<T>::max_exponent - 3;
  for (int trial = 0; trial < 600; ++trial) {
    for (int spread : {0, 3, 10, 40, widest})
      expect_reference(hard_values<T>(generator, 1 + generator() % 20, spread));
  }
}

// Fast and slow elements side by side, blocks cut anywhere, unaligned.
TYPED_TEST(ExactSumTest, VectorsOfAnySizeAreSummedElementByElement) {
  using T = TypeParam;
  std::mt19937 generator(2);
  for (size_t count : {0, 1, 7, 255, 256, 257, 1000}) {
    std::vector<std::vector<T>> terms(5, std::vector<T>(count + 1));
    for (size_t i = 0; i <= count; ++i) {
      const auto values = hard_values<T>(generator, terms.size(), i % 3 ? 4 : 100);
      for (size_t k = 0; k < terms.size(); ++k) terms[k][i] = values[k];
    }
    std::vector<T> sum(count + 2, T{42});
    std::vector<const T*> sources;
    for (auto& term : terms) sources.push_back(term.data() + 1);
    exact_sum(sources, sum.data() + 1, count);
    for (size_t i = 0; i < count; ++i) {
      std::vector<T> values;
      for (const auto& term : terms) values.push_back(term[i + 1]);
      ASSERT_TRUE(same_bits(sum[i + 1], reference_sum(values))) << "element " << i;
    }
    EXPECT_TRUE(sum.front() == 42 && sum.back() == 42);
  }
}

TYPED_TEST(ExactSumTest, TheAccumulatorTakesMoreAfterRounding) {
  using T = TypeParam;
  ExactSumAccumulator<T> accumulator;
  EXPECT_EQ(accumulator.round(), T{0});
  accumulator.add(T{-3});
  EXPECT_EQ(accumulator.round(), T{-3});
  accumulator.add(T{1e20});
  accumulator.add(T{-1});
  accumulator.add(T{-1e20});
  EXPECT_EQ(accumulator.round(), T{-4});
}

}  // namespace
}  // namespace deepseek_train::collectives
