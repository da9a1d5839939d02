// Reading the launcher's environment.
#include "deepseek_train/collectives/launch.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "deepseek_train/collectives/communicator.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using Environment = std::map<std::string, std::string>;

LaunchInfo read(const Environment& environment) {
  return launch_info_from_environment([&](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

const Environment kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "3"},
                              {"OMPI_COMM_WORLD_SIZE", "8"},
                              {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                              {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                              {"PMIX_NAMESPACE", "12345"}};
const Environment kTorchrun = {{"RANK", "5"},
                               {"WORLD_SIZE", "8"},
                               {"LOCAL_RANK", "1"},
                               {"LOCAL_WORLD_SIZE", "4"},
                               {"MASTER_ADDR", "node1"},
                               {"MASTER_PORT", "4711"}};
const Environment kSlurm = {{"SLURM_PROCID", "6"},
                            {"SLURM_STEP_NUM_TASKS", "7"},
                            {"SLURM_LOCALID", "0"},
                            {"SLURM_NODEID", "3"},
                            {"SLURM_JOB_ID", "99"},
                            {"SLURM_STEP_ID", "2"},
                            {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"}};

Environment with(Environment environment, const std::string& name, const std::string& value) {
  environment[name] = value;
  return environment;
}
Environment without(Environment environment, const std::string& name) {
  environment.erase(name);
  return environment;
}
std::string error_of(const Environment& environment) {
  try {
    read(environment);
    return "";
  } catch (const InvalidArgument& error) {
    return error.what();
  }
}

TEST(LaunchTest, NothingSetIsASingleProcess) {
  const LaunchInfo info = read({});
  EXPECT_EQ(info.rank, 0);
  EXPECT_EQ(info.size, 1);
  EXPECT_FALSE(info.job_id.empty());
}

TEST(LaunchTest, OpenMpi) {
  const LaunchInfo info = read(kOpenMpi);
  EXPECT_EQ(info.rank, 3);
  EXPECT_EQ(info.size, 8);
  EXPECT_EQ(info.local_rank, 1);
  EXPECT_EQ(info.local_size, 2);
  EXPECT_NE(info.job_id, read(with(kOpenMpi, "PMIX_NAMESPACE", "12346")).job_id);
  EXPECT_TRUE(info.rendezvous_host.empty());
  EXPECT_EQ(read(with(kOpenMpi, "MASTER_ADDR", "node0")).rendezvous_port, 29500);
}

TEST(LaunchTest, Torchrun) {
  const LaunchInfo info = read(kTorchrun);
  EXPECT_EQ(info.rank, 5);
  EXPECT_EQ(info.size, 8);
  EXPECT_EQ(info.local_size, 4);
  EXPECT_EQ(info.rendezvous_host, "node1");
  EXPECT_EQ(info.rendezvous_port, 4711);
  EXPECT_NE(info.job_id, read(with(kTorchrun, "TORCHELASTIC_RESTART_COUNT", "1")).job_id);
}

TEST(LaunchTest, SlurmCountsTasksOfItsOwnNode) {
  const LaunchInfo info = read(kSlurm);
  EXPECT_EQ(info.rank, 6);
  EXPECT_EQ(info.size, 7);
  EXPECT_EQ(info.local_size, 1);
  EXPECT_EQ(info.job_id, "slurm-99.2");
  EXPECT_EQ(read(with(kSlurm, "SLURM_NODEID", "2")).local_size, 2);
}

TEST(LaunchTest, ASlurmBatchScriptIsNotAStep) {
  EXPECT_EQ(read(without(kSlurm, "SLURM_STEP_ID")).size, 1);
}

TEST(LaunchTest, MpirunInsideSlurmIsOpenMpis) {
  Environment both = kOpenMpi;
  both.insert(kSlurm.begin(), kSlurm.end());
  EXPECT_EQ(read(both).rank, 3);
}

TEST(LaunchTest, MistakesNameTheVariable) {
  EXPECT_NE(error_of(without(kOpenMpi, "OMPI_COMM_WORLD_SIZE")).find("OMPI_COMM_WORLD_SIZE"),
            std::string::npos);
  EXPECT_NE(
      error_of(with(kOpenMpi, "OMPI_COMM_WORLD_RANK", "x3")).find("OMPI_COMM_WORLD_RANK=\"x3\""),
      std::string::npos);
  EXPECT_NE(error_of(with(kOpenMpi, "OMPI_COMM_WORLD_RANK", "8")).find("rank 8 of 8"),
            std::string::npos);
  EXPECT_NE(error_of(with(kTorchrun, "MASTER_PORT", "70000")).find("MASTER_PORT=70000"),
            std::string::npos);
  EXPECT_NE(error_of(without(kTorchrun, "WORLD_SIZE")).find("WORLD_SIZE"), std::string::npos);
  EXPECT_NE(error_of(with(kTorchrun, "LOCAL_WORLD_SIZE", "9")).find("9"), std::string::npos);
  for (const char* bad : {"x", "2(x", "2(x3", "2(3)", "2,,1", "2(x3);1", "1"})
    EXPECT_NE(
        error_of(with(kSlurm, "SLURM_STEP_TASKS_PER_NODE", bad)).find("SLURM_STEP_TASKS_PER_NODE"),
        std::string::npos)
        << bad;
}

TEST(LaunchTest, ContradictingLaunchersAreRefused) {
  Environment both = kOpenMpi;
  both.insert({{"RANK", "4"}, {"WORLD_SIZE", "8"}});
  EXPECT_NE(error_of(both).find("contradict"), std::string::npos);
  both["RANK"] = "3";
  EXPECT_EQ(read(both).rank, 3);
}

TEST(MakeCommunicatorTest, RefusesWhatCannotWork) {
  const auto error_with =
      [](const std::function<void(CommunicatorOptions&)>& change) -> std::string {
    CommunicatorOptions options;
    options.launch.job_id = "refused";
    change(options);
    try {
      make_communicator(options);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(error_with([](auto& o) { o.backend = "nccl9"; }).find("nccl9"), std::string::npos);
  EXPECT_NE(error_with([](auto& o) { o.transport = "udp"; }).find("udp"), std::string::npos);
  EXPECT_NE(error_with([](auto& o) { o.algorithm = "ring"; }).find("ring"), std::string::npos);
  EXPECT_NE(error_with([](auto& o) { o.launch.rank = 1; }).find("rank 1 of 1"), std::string::npos);
  EXPECT_NE(error_with([](auto& o) { o.timeout = std::chrono::milliseconds(0); }).find("timeout"),
            std::string::npos);
  EXPECT_NE(error_with([](auto& o) { o.launch.size = 2; }).find("MASTER_ADDR"), std::string::npos);
  EXPECT_NE(error_with([](auto& o) {
              o.launch.size = 2;
              o.launch.rendezvous_host = "192.0.2.1";
              o.launch.rendezvous_port = 29500;
            }).find("insecure_network"),
            std::string::npos);
}

}  // namespace
}  // namespace deepseek_train::collectives
