#include "deepseek_train/collectives/launch.h"

#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

constexpr int kDefaultPort = 29500;  // torchrun's

// The environment, with values checked as they are read.
class Variables {
 public:
  explicit Variables(const GetEnv& get_env) : get_env_(get_env) {}

  bool has(const char* name) const { return get_env_(name) != nullptr; }
  std::string text(const char* name) const {
    const char* value = get_env_(name);
    return value ? value : "";
  }
  std::optional<int> number(const char* name) const {
    const char* value = get_env_(name);
    if (!value) return std::nullopt;
    return parse(name, value);
  }
  int required(const char* name, const char* because) const {
    const auto value = number(name);
    DST_CHECK(value, because, " is set but ", name, " is not; set both or neither");
    return *value;
  }

 private:
  static int parse(const char* name, std::string_view text) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    DST_CHECK(error == std::errc() && end == text.data() + text.size() && value >= 0, name, "=\"",
              text, "\" is not a number; wanted 0 or more");
    return value;
  }

  const GetEnv& get_env_;
};

// The first of the names that is set.
std::string first_of(const Variables& variables, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (variables.has(name)) return variables.text(name);
  }
  return "";
}

std::optional<LaunchInfo> from_openmpi(const Variables& variables) {
  const auto rank = variables.number("OMPI_COMM_WORLD_RANK");
  if (!rank) return std::nullopt;
  LaunchInfo info;
  info.rank = *rank;
  info.size = variables.required("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK");
  info.local_rank = variables.required("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_RANK");
  info.local_size = variables.required("OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_RANK");
  // The process manager's name of the job: 4.1 sets both, 5 only the first.
  info.job_id = "openmpi-" + first_of(variables, {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"});
  return info;
}

std::optional<LaunchInfo> from_torchrun(const Variables& variables) {
  if (!variables.has("RANK") && !variables.has("WORLD_SIZE")) return std::nullopt;
  LaunchInfo info;
  info.rank = variables.required("RANK", "WORLD_SIZE");
  info.size = variables.required("WORLD_SIZE", "RANK");
  info.local_rank = variables.number("LOCAL_RANK").value_or(info.rank);
  info.local_size = variables.number("LOCAL_WORLD_SIZE").value_or(info.size);
  info.job_id = concat("torchrun-", variables.text("TORCHELASTIC_RUN_ID"), "-",
                       variables.text("TORCHELASTIC_RESTART_COUNT"), "-",
                       variables.text("MASTER_ADDR"), "-", variables.text("MASTER_PORT"));
  return info;
}

// Slurm's "2(x3),1": two tasks on each of three nodes, then one.
int tasks_on_node(const std::string& text, int node) {
  std::string_view rest = text;
  const auto number = [&](char after) {
    int value = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    DST_CHECK(error == std::errc() && value > 0, "SLURM_STEP_TASKS_PER_NODE=\"", text,
              "\" is not of the form 2(x3),1");
    rest.remove_prefix(end - rest.data());
    if (after && !rest.empty() && rest.front() == after) rest.remove_prefix(1);
    return value;
  };
  while (!rest.empty()) {
    const int tasks = number('\0');
    int repeats = 1;
    if (rest.starts_with("(x")) {
      rest.remove_prefix(2);
      repeats = number(')');
    }
    if (node < repeats) return tasks;
    node -= repeats;
    if (rest.empty()) break;
    DST_CHECK(rest.front() == ',', "SLURM_STEP_TASKS_PER_NODE=\"", text,
              "\" is not of the form 2(x3),1");
    rest.remove_prefix(1);
  }
  throw InvalidArgument(
      concat("SLURM_STEP_TASKS_PER_NODE=\"", text, "\" does not reach this node, SLURM_NODEID"));
}

// Only inside a step made by srun: a batch script's own shell has SLURM_PROCID=0 without being one
// of the tasks.
std::optional<LaunchInfo> from_slurm(const Variables& variables) {
  if (!variables.has("SLURM_STEP_ID") || !variables.has("SLURM_PROCID")) return std::nullopt;
  LaunchInfo info;
  info.rank = variables.required("SLURM_PROCID", "SLURM_STEP_ID");
  const char* size_name =
      variables.has("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
  info.size = variables.required(size_name, "SLURM_PROCID");
  info.local_rank = variables.required("SLURM_LOCALID", "SLURM_PROCID");
  const auto per_node = first_of(variables, {"SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"});
  info.local_size = per_node.empty()
                        ? variables.number("SLURM_NTASKS_PER_NODE").value_or(info.size)
                        : tasks_on_node(per_node, variables.number("SLURM_NODEID").value_or(0));
  info.job_id = concat("slurm-", first_of(variables, {"SLURM_JOB_ID", "SLURM_JOBID"}), ".",
                       variables.text("SLURM_STEP_ID"));
  return info;
}

LaunchInfo alone() {
  LaunchInfo info;
  info.job_id = concat("single-", ::getpid());
  return info;
}

void check(const LaunchInfo& info, const char* launcher) {
  DST_CHECK(info.size >= 1 && info.rank < info.size, launcher, " says rank ", info.rank, " of ",
            info.size, " ranks; wanted rank < size");
  DST_CHECK(
      info.local_size >= 1 && info.local_rank < info.local_size && info.local_size <= info.size,
      launcher, " says local rank ", info.local_rank, " of ", info.local_size, " on this host and ",
      info.size, " in all; wanted local rank < local size <= size");
}

void check_agreement(const LaunchInfo& chosen, const std::optional<LaunchInfo>& other,
                     const char* names) {
  DST_CHECK(!other || (other->rank == chosen.rank && other->size == chosen.size),
            "two launchers contradict each other: ", names, " give rank ", chosen.rank, " of ",
            chosen.size, " and ", other->rank, " of ", other->size, "; unset one of them");
}

void read_rendezvous(const Variables& variables, LaunchInfo& info) {
  info.rendezvous_host = variables.text("MASTER_ADDR");
  if (info.rendezvous_host.empty() && !variables.has("MASTER_PORT")) return;
  info.rendezvous_port = variables.number("MASTER_PORT").value_or(kDefaultPort);
  DST_CHECK(info.rendezvous_port > 0 && info.rendezvous_port < 65536,
            "MASTER_PORT=", info.rendezvous_port, " is not a port; wanted 1 to 65535");
}

std::string cache_folder(const Variables& variables) {
  if (const auto caches = variables.text("XDG_CACHE_HOME"); !caches.empty())
    return caches + "/deepseek_train";
  const auto home = variables.text("HOME");
  return home.empty() ? "" : home + "/.cache/deepseek_train";
}

}  // namespace

LaunchInfo launch_info_from_environment(const GetEnv& get_env) {
  const Variables variables(get_env);
  const auto openmpi = from_openmpi(variables);
  const auto torchrun = from_torchrun(variables);
  LaunchInfo info = alone();
  if (openmpi) {
    info = *openmpi;
    check(info, "OpenMPI (OMPI_COMM_WORLD_*)");
    check_agreement(info, torchrun, "OMPI_COMM_WORLD_RANK/SIZE and RANK/WORLD_SIZE");
  } else if (torchrun) {
    info = *torchrun;
    check(info, "torchrun (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE)");
  } else if (const auto slurm = from_slurm(variables)) {
    info = *slurm;
    check(info,
          "Slurm (SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID, SLURM_STEP_TASKS_PER_NODE)");
  }
  read_rendezvous(variables, info);
  info.cache_folder = cache_folder(variables);
  info.traces_choices = variables.number("DST_COLLECTIVES_TRACE").value_or(0) != 0;
  return info;
}

LaunchInfo launch_info_from_environment() { return launch_info_from_environment(&std::getenv); }

}  // namespace deepseek_train::collectives
