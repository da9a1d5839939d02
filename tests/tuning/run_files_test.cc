#include "src/tuning/run_files.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "deepseek_train/core/error.h"

namespace deepseek_train::tuning {
namespace {

class RunFilesTest : public testing::Test {
 protected:
  RunFilesTest() {
    recipe_.output_dir = join_path(testing::TempDir(), concat("dst_run_files_", ::getpid()));
    recipe_.name = "trial";
    recipe_.training.max_steps = 10;
  }
  ~RunFilesTest() override { posix_env().remove_all(recipe_.output_dir); }

  Recipe recipe_;
};

TEST_F(RunFilesTest, TheSameRecipeMayGoOnAnotherMayNot) {
  claim_run_folder(posix_env(), recipe_);
  claim_run_folder(posix_env(), recipe_);
  recipe_.evaluation.max_new_tokens = 3;  // does not change the weights
  claim_run_folder(posix_env(), recipe_);
  recipe_.training.max_steps = 11;
  try {
    claim_run_folder(posix_env(), recipe_);
    FAIL() << "no error";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("training.max_steps = 10"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace deepseek_train::tuning
