#include "deepseek_train/core/credentials.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train {
namespace {

class FolderCredentialsTest : public testing::Test {
 protected:
  FolderCredentialsTest()
      : folder_(join_path(testing::TempDir(), concat("dst_credentials_", ::getpid()))) {
    write("rank3.crt", "certificate");
    write("rank3.key", "key");
    write("ca.crt", "authorities");
  }
  ~FolderCredentialsTest() override { env_.remove_all(folder_); }
  void write(const std::string& file, const std::string& text) {
    write_text(env_, join_path(folder_, file), text);
  }

  Env& env_ = posix_env();
  const std::string folder_;
};

TEST_F(FolderCredentialsTest, AreReadByName) {
  const auto credentials = folder_credentials(env_, folder_, "rank3")->current();
  EXPECT_EQ(credentials->certificate_chain, "certificate");
  EXPECT_EQ(credentials->private_key, "key");
  EXPECT_EQ(credentials->trust_bundle, "authorities");
}

TEST_F(FolderCredentialsTest, AreTheSameObjectUntilAFileChanges) {
  const auto source = folder_credentials(env_, folder_, "rank3");
  const auto first = source->current();
  EXPECT_EQ(source->current(), first);
  for (const char* file : {"rank3.crt", "rank3.key", "ca.crt"}) {
    const auto before = source->current();
    write(file, "rotated");
    EXPECT_NE(source->current(), before) << file;
  }
  EXPECT_EQ(source->current()->private_key, "rotated");
  EXPECT_EQ(first->private_key, "key");
}

TEST_F(FolderCredentialsTest, AMissingFileIsNamed) {
  const auto source = folder_credentials(env_, folder_, "rank4");
  try {
    source->current();
    FAIL() << "no error";
  } catch (const NotFound& error) {
    EXPECT_NE(std::string(error.what()).find("rank4.crt"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace deepseek_train
