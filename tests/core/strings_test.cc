#include "deepseek_train/core/strings.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"

namespace deepseek_train {
namespace {

TEST(ConcatTest, JoinsValues) {
  EXPECT_EQ(concat("rank ", 3, " of ", size_t{8}, ", ", 0.5, ", ", true, ", ",
                   std::vector<int64_t>{2, 3}),
            "rank 3 of 8, 0.5, true, [2, 3]");
}

TEST(NearestWordTest, FindsATypoAndRejectsNonsense) {
  EXPECT_EQ(nearest_word("learnig_rate", {"learning_rate", "max_steps"}), "learning_rate");
  EXPECT_EQ(nearest_word("zzzz", {"learning_rate", "max_steps"}), "");
}

TEST(CheckTest, ThrowsTheNamedTypeWithItsText) {
  EXPECT_THROW(DST_CHECK(1 > 2, "found ", 1), InvalidArgument);
  try {
    DST_CHECK_AS(Timeout, false, "waited for rank ", 7);
    FAIL();
  } catch (const Timeout& error) {
    EXPECT_STREQ(error.what(), "waited for rank 7");
  }
}

}  // namespace
}  // namespace deepseek_train
