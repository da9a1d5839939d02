// A build without the NCCL backend says how to get it.
#include <gtest/gtest.h>

#include "deepseek_train/collectives/host_reduced.h"
#include "deepseek_train/collectives/nccl.h"
#include "deepseek_train/core/error.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

template <typename Body>
std::string error_of(const Body& body) {
  try {
    body();
  } catch (...) {
    return test_support::current_error();
  }
  return "";
}

TEST(NoNcclTest, EveryWayInSaysHowToBuildIt) {
  EXPECT_FALSE(has_nccl_backend());
  CommunicatorOptions options;
  options.launch = test_support::launch_info(0, 1, test_support::unique_job_id());
  const auto host = make_communicator(options);
  options.backend = "nccl";
  for (const auto& error : {error_of([&] { make_communicator(options); }),
                            error_of([&] { make_nccl_communicator(options); }),
                            error_of([&] { make_host_reduced_all_reduce(*host); })}) {
    EXPECT_TRUE(error.starts_with("InvalidArgument: ")) << error;
    EXPECT_NE(error.find("-DDST_WITH_NCCL=ON"), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace deepseek_train::collectives
