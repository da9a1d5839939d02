#include "deepseek_train/training/checkpointer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "deepseek_train/core/error.h"
#include "tests/training/tiny_lm.h"

namespace deepseek_train::training {
namespace {

class CheckpointerTest : public testing::Test {
 protected:
  CheckpointerTest()
      : folder_(join_path(testing::TempDir(), concat("dst_checkpointer_", ::getpid()))) {}
  ~CheckpointerTest() override { env_.remove_all(folder_); }
  std::string file(std::string_view name) const {
    return join_path(join_path(folder_, "checkpoint-7"), name);
  }
  void save() {
    checkpointer_.save(model_, optimizer_, {7, 20, "{}", {{1, 2.5, 0.1, 3.0, 400.0}}});
  }

  Env& env_ = posix_env();
  std::string folder_;
  TinyLm model_{1};
  AdamW optimizer_{model_, {}};
  Checkpointer checkpointer_{env_, folder_, 2};
};

TEST_F(CheckpointerTest, RoundTrip) {
  save();
  EXPECT_EQ(checkpointer_.latest(), 7);
  TinyLm other(2);
  AdamW optimizer(other, {});
  auto state = checkpointer_.load(7, other, optimizer);
  EXPECT_EQ(state.max_steps, 20);
  ASSERT_EQ(state.log_history.size(), 1u);
  EXPECT_EQ(state.log_history[0].loss, 2.5);
  for (size_t i = 0; i < model_.parameters().size(); ++i)
    EXPECT_TRUE(torch::equal(model_.parameters()[i], other.parameters()[i]));
}

TEST_F(CheckpointerTest, AnIncompleteCheckpointIsNotSeen) {
  save();
  env_.remove_all(file("COMPLETE"));
  EXPECT_EQ(checkpointer_.latest(), std::nullopt);
}

TEST_F(CheckpointerTest, ACutFileIsNamedAndTheModelLeftAlone) {
  save();
  for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
    save();
    ASSERT_EQ(::truncate(file(name).c_str(), static_cast<off_t>(env_.file_size(file(name)) - 9)),
              0);
    TinyLm other(2);
    auto before = other.parameters()[0].detach().clone();
    AdamW optimizer(other, {});
    try {
      checkpointer_.load(7, other, optimizer);
      ADD_FAILURE() << "no error for " << name;
    } catch (const DataCorruption& error) {
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
    EXPECT_TRUE(torch::equal(before, other.parameters()[0]));
  }
}

TEST_F(CheckpointerTest, AnotherModelsCheckpointIsRefused) {
  save();
  TinyLm other(2, /*size=*/14);
  AdamW optimizer(other, {});
  EXPECT_THROW(checkpointer_.load(7, other, optimizer), DataCorruption);
}

}  // namespace
}  // namespace deepseek_train::training
