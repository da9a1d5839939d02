#include "deepseek_train/core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace deepseek_train {
namespace {

TEST(Float16Test, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    Float16 value{static_cast<uint16_t>(bits)};
    float wide = to_float(value);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(to_float(to_float16(wide))));
    } else {
      ASSERT_EQ(to_float16(wide).bits, value.bits) << wide;
    }
  }
}

// _Float16 is the compiler's own conversion: an independent reference.
TEST(Float16Test, RoundsAsTheCompilerDoes) {
  for (uint64_t bits = 0; bits < 0x100000000ull; bits += 9973) {
    float value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(to_float16(value).bits, std::bit_cast<uint16_t>(static_cast<_Float16>(value)))
        << value;
  }
}

TEST(BFloat16Test, RoundsToNearestTiesToEven) {
  EXPECT_EQ(to_bfloat16(1.0f).bits, 0x3f80);
  EXPECT_EQ(to_bfloat16(1.0f + 0x1p-8f).bits, 0x3f80);      // halfway, down to even
  EXPECT_EQ(to_bfloat16(1.0f + 3 * 0x1p-8f).bits, 0x3f82);  // halfway, up to even
  EXPECT_EQ(to_float(to_bfloat16(std::numeric_limits<float>::max())),
            std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::nanf("")))));
}

}  // namespace
}  // namespace deepseek_train
