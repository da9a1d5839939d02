#include "deepseek_train/training/schedule.h"

#include <gtest/gtest.h>

namespace deepseek_train::training {
namespace {

TEST(CosineScheduleTest, WarmsUpDecaysAndStays) {
  CosineSchedule schedule{.peak = 2.0, .final_ratio = 0.1, .warmup_steps = 4, .decay_steps = 14};
  EXPECT_DOUBLE_EQ(schedule.at(0), 0.5);
  EXPECT_DOUBLE_EQ(schedule.at(3), 2.0);
  EXPECT_DOUBLE_EQ(schedule.at(4), 2.0);
  EXPECT_NEAR(schedule.at(9), 2.0 * (0.1 + 0.9 * 0.5), 1e-12);  // halfway
  EXPECT_NEAR(schedule.at(14), 0.2, 1e-12);
  EXPECT_NEAR(schedule.at(1000), 0.2, 1e-12);
  for (int64_t step = 4; step < 20; ++step) EXPECT_GE(schedule.at(step), schedule.at(step + 1));
}

TEST(CosineScheduleTest, NoWarmUp) {
  EXPECT_DOUBLE_EQ((CosineSchedule{.peak = 1, .decay_steps = 10}).at(0), 1.0);
}

}  // namespace
}  // namespace deepseek_train::training
