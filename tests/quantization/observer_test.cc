#include "deepseek_train/quantization/observer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "deepseek_train/core/error.h"

namespace deepseek_train::quantization {
namespace {

TEST(MinMaxObserverTest, KeepsTheLargestMagnitudeOfEachChannelOverBatches) {
  MinMaxObserver observer(2);
  observer.observe(std::vector<float>{1, -3, 2, 0.5, 0.25, -0.125});
  observer.observe(std::vector<float>{2, -2, -4, 4});  // another number of columns
  EXPECT_EQ(observer.absmax()[0], 3.0f);
  EXPECT_EQ(observer.absmax()[1], 4.0f);
  const std::vector<float> scales = observer.scales();
  EXPECT_EQ(scales[0], 3.0f / 127.5f);
  EXPECT_EQ(scales[1], 4.0f / 127.5f);
}

TEST(MinMaxObserverTest, OneChannelIsTheWholeTensor) {
  MinMaxObserver observer(1);
  observer.observe(std::vector<float>{1, -7, 5});
  EXPECT_EQ(observer.absmax()[0], 7.0f);
}

TEST(MinMaxObserverTest, NothingOrZerosGiveEpsilonAndNanStays) {
  MinMaxObserver observer(1);
  EXPECT_EQ(observer.scales()[0], std::numeric_limits<float>::epsilon());
  observer.observe(std::vector<float>{0, -0.0f});
  EXPECT_EQ(observer.scales()[0], std::numeric_limits<float>::epsilon());
  observer.observe(std::vector<float>{1, NAN, 2});
  observer.observe(std::vector<float>{9});
  EXPECT_TRUE(std::isnan(observer.absmax()[0]));
}

TEST(MinMaxObserverTest, RanksCombineByMaximum) {
  MinMaxObserver together(1), first(1), second(1);
  for (auto* observer : {&together, &first}) observer->observe(std::vector<float>{1, -5});
  for (auto* observer : {&together, &second}) observer->observe(std::vector<float>{6, 2});
  first.absmax()[0] = std::max(first.absmax()[0], second.absmax()[0]);
  EXPECT_EQ(first.scales(), together.scales());
}

TEST(MinMaxObserverTest, BadShapesAreRefused) {
  EXPECT_THROW(MinMaxObserver(0), InvalidArgument);
  EXPECT_THROW(MinMaxObserver(-1), InvalidArgument);
  MinMaxObserver observer(2);
  EXPECT_THROW(observer.observe(std::vector<float>{1, 2, 3}), InvalidArgument);
}

}  // namespace
}  // namespace deepseek_train::quantization
