#include "deepseek_train/core/env.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "deepseek_train/core/error.h"

namespace deepseek_train {
namespace {

class EnvTest : public testing::Test {
 protected:
  EnvTest() : folder_(join_path(testing::TempDir(), concat("dst_env_", ::getpid()))) {
    env_.make_folders(folder_);
  }
  ~EnvTest() override { env_.remove_all(folder_); }
  std::string path(std::string_view name) { return join_path(folder_, name); }

  Env& env_ = posix_env();
  std::string folder_;
};

TEST_F(EnvTest, WrittenTextIsReadBack) {
  write_text(env_, path("deep/er/a.txt"), "some text");
  EXPECT_EQ(read_text(env_, path("deep/er/a.txt")), "some text");
  EXPECT_EQ(env_.file_size(path("deep/er/a.txt")), 9u);
}

TEST_F(EnvTest, AnUncommittedFileLeavesNothing) {
  { env_.create(path("b.txt"))->append(std::string_view("half")); }
  EXPECT_TRUE(env_.list(folder_).empty());
}

TEST_F(EnvTest, AFailedRewriteKeepsTheOldFile) {
  write_text(env_, path("c.txt"), "old");
  { env_.create(path("c.txt"))->append(std::string_view("new")); }
  EXPECT_EQ(read_text(env_, path("c.txt")), "old");
}

TEST_F(EnvTest, AMissingFileIsNamed) {
  try {
    env_.open(path("absent"));
    FAIL() << "no error";
  } catch (const NotFound& error) {
    EXPECT_NE(std::string(error.what()).find(path("absent")), std::string::npos);
  }
}

TEST_F(EnvTest, PopulatedAndReleasedPartsReadTheSame) {
  const std::string text = std::string(100'000, 'a') + "the end";
  write_text(env_, path("big"), text);
  const auto file = env_.open(path("big"));
  for (const size_t begin : {0, 1, 4096, 99'999}) {
    const auto part = file->bytes().subspan(begin);
    file->populate(part);
    file->release(part);
    EXPECT_EQ(static_cast<char>(part.front()), text[begin]);
    EXPECT_EQ(static_cast<char>(part.back()), 'd');
  }
  file->populate({});
  file->release({});
}

TEST_F(EnvTest, AFileCutWhileItIsOpenIsAnErrorThatNamesTheBytes) {
  write_text(env_, path("cut"), std::string(100'000, 'a'));
  const auto file = env_.open(path("cut"));
  ASSERT_EQ(::truncate(path("cut").c_str(), 10), 0);
  try {
    file->populate(file->bytes().subspan(50'000, 1000));
    FAIL() << "no error";
  } catch (const Unavailable& error) {
    EXPECT_NE(std::string(error.what()).find("bytes 50000 to 51000"), std::string::npos)
        << error.what();
  }
}

TEST_F(EnvTest, AFileWhereAFolderIsWantedIsAnError) {
  write_text(env_, path("plain"), "x");
  EXPECT_THROW(env_.create(path("plain/inside")), Error);
}

TEST_F(EnvTest, FoldersAreMadeListedRenamedAndRemovedWhole) {
  write_text(env_, path("a/b/c/deep.txt"), "1");
  write_text(env_, path("a/x.txt"), "2");
  EXPECT_EQ(env_.list(path("a")), (std::vector<std::string>{"b", "x.txt"}));
  env_.make_folders(path("a/b"));  // exists already: no error
  env_.rename(path("a"), path("z"));
  EXPECT_TRUE(env_.exists(path("z/b/c/deep.txt")));
  env_.remove_all(path("z"));
  EXPECT_TRUE(env_.list(folder_).empty());
  env_.remove_all(path("never was"));
  EXPECT_THROW(env_.list(path("never was")), NotFound);
}

TEST(JoinPathTest, OneSlashBetween) {
  EXPECT_EQ(join_path("a", "b"), "a/b");
  EXPECT_EQ(join_path("a/", "b"), "a/b");
  EXPECT_EQ(join_path("", "b"), "b");
  EXPECT_EQ(join_path("a", "/b"), "/b");
}

}  // namespace
}  // namespace deepseek_train
