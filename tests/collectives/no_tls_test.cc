// A build without OpenSSL says so where credentials are given.
#include <gtest/gtest.h>

#include "collectives/transport/tls/make_tls.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

TEST(NoTlsTest, CredentialsAreRefusedWithWhatToDo) {
  try {
    make_tls_streams({});
    FAIL() << "clear text where credentials were given";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("DST_WITH_TLS=ON"), std::string::npos);
  }
}

}  // namespace
}  // namespace deepseek_train::collectives
