#include "deepseek_train/tuning/run_log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "deepseek_train/core/error.h"

namespace deepseek_train::tuning {
namespace {

class RunLogTest : public testing::Test {
 protected:
  RunLogTest() { posix_env().make_folders(folder_); }
  ~RunLogTest() override { posix_env().remove_all(folder_); }

  std::string folder_ = join_path(testing::TempDir(), concat("dst_run_log_", ::getpid()));
  std::string path_ = join_path(folder_, "log.jsonl");
};

TEST_F(RunLogTest, AppendsALineAStepThatReadsBackExactly) {
  RunLog(path_).record(1, {{"loss", 0.1}, {"learning_rate", 1e-4}});
  RunLog(path_).record(2, {{"loss", 1.0 / 3}, {"grad_norm", 2}, {"tokens_per_second", 560.5}});
  EXPECT_TRUE(read_text(posix_env(), path_)
                  .starts_with("{\"step\":1,\"loss\":0.1,\"learning_rate\":0.0001}\n{\"step\":2,"));
  auto history = read_run_log(posix_env(), path_);
  ASSERT_EQ(history.size(), 2u);
  EXPECT_EQ(history[0].learning_rate, 1e-4);
  EXPECT_EQ(history[1].step, 2);
  EXPECT_EQ(history[1].loss, 1.0 / 3);
  EXPECT_EQ(history[1].tokens_per_second, 560.5);
}

TEST_F(RunLogTest, ACutLineAndARepeatedStep) {
  write_text(posix_env(), path_,
             "{\"step\":1,\"loss\":3.0}\n{\"step\":2,\"loss\":2.0}\n{\"step\":2,\"loss\":1.5}\n{"
             "\"step\":3,\"lo");
  auto history = read_run_log(posix_env(), path_);
  ASSERT_EQ(history.size(), 2u);
  EXPECT_EQ(history[1].loss, 1.5);
}

TEST_F(RunLogTest, AFolderThatIsNotThereIsNamed) {
  EXPECT_TRUE(read_run_log(posix_env(), path_).empty());
  try {
    RunLog log(join_path(folder_, "absent/log.jsonl"));
    FAIL() << "no error";
  } catch (const Unavailable& error) {
    EXPECT_NE(std::string(error.what()).find("absent/log.jsonl"), std::string::npos);
  }
}

}  // namespace
}  // namespace deepseek_train::tuning
