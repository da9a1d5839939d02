// all_reduce of float32, ours beside its rivals, in one run. Start under mpirun:
//   mpirun -n 2 bench_all_reduce [--peers all|openmpi] [--transport shm|tcp] [--max-bytes N]
//     [--rounds N] [--seconds S] [--json] [--python PATH] [--only NAME] [--algorithm
//     auto|tree|ring]
//     [--credentials FOLDER]
//
// Every rank rewrites its input before every iteration, so that nobody profits from data left in
// place; an iteration's time is the slowest rank's; per size and contestant the median of a round,
// then the median of the rounds, in which contestants take turns. Results are checked in every
// round. With --peers all, OpenMPI without single copy (and over TCP, for --transport tcp) and
// torch's Gloo run as processes of their own between our rounds, while our ranks sleep. After the
// table, or instead of it (--json), one JSON object per line (design section 8): the ratio to
// OpenMPI is to the best of its ways at that size.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>
#include <map>

#include "bench/collectives/openmpi.h"
#include "bench/collectives/peer_process.h"
#include "bench/collectives/timing.h"
#include "deepseek_train/core/credentials.h"
#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::bench {
namespace {

using namespace deepseek_train::collectives;

constexpr size_t kSizes[] = {4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20, 256 << 20};

struct Options {
  std::string peers = "openmpi";
  std::string transport = "shm";
  std::string only;
  std::string program;
  std::string python = "python3";
  std::string algorithm = "auto";
  std::string credentials;
  size_t max_bytes = kSizes[5];
  int rounds = 5;
  double seconds = 0.2;
  bool json = false;
};

class Bench {
 public:
  Bench(const Options& options, Communicator& communicator)
      : options_(options),
        communicator_(communicator),
        timer_(communicator, options.seconds),
        arena_(communicator.allocate_shared(options.max_bytes)),
        private_(options.max_bytes / sizeof(float)),
        in_(private_.size()),
        out_(private_.size()) {
    const auto ours = [this](std::string name, float* data) {
      contestants_.push_back({std::move(name), data, data, [this, data](size_t count) {
                                communicator_.all_reduce(std::span(data, count));
                              }});
    };
    if (arena_->is_mapped_by_peers()) ours("arena", arena_->as<float>().data());
    ours("private", private_.data());
    // Over tcp OpenMPI runs in processes of its own: this one's uses shared memory.
    if (options_.transport != "tcp" || !options_.only.empty()) {
      for (auto& contestant : openmpi_contestants(in_.data(), out_.data()))
        contestants_.push_back(std::move(contestant));
    }
    if (!options_.only.empty())
      std::erase_if(contestants_, [&](const auto& c) { return c.name != options_.only; });
  }

  void run() {
    for (int round = 0; round < options_.rounds; ++round) {
      for (const size_t bytes : sizes()) {
        for (const auto& contestant : contestants_)
          add(contestant.name, bytes, timer_.round(contestant, bytes) * 1e6);
        if (options_.only.empty()) add("memcpy", bytes, timer_.round(copy(), bytes, false) * 1e6);
      }
      if (options_.peers == "all") run_peers();
    }
    if (communicator_.rank() == 0) report();
  }

 private:
  std::vector<size_t> sizes() const {
    std::vector<size_t> sizes;
    for (const size_t bytes : kSizes) {
      if (bytes <= options_.max_bytes) sizes.push_back(bytes);
    }
    return sizes;
  }

  // What memory allows: every rank copies as many bytes.
  Contestant copy() {
    return {"memcpy", in_.data(), out_.data(),
            [this](size_t count) { std::memcpy(out_.data(), in_.data(), count * sizeof(float)); }};
  }

  void add(const std::string& name, size_t bytes, double microseconds) {
    medians_[bytes][name].push_back(microseconds);
  }

  void run_peers() {
    if (communicator_.rank() == 0) {
      const auto ranks = std::to_string(communicator_.size());
      const std::vector<std::string> limits = {"--max-bytes", std::to_string(options_.max_bytes),
                                               "--rounds",    "1",
                                               "--seconds",   std::to_string(options_.seconds)};
      const std::vector<std::string> launch = {
          "mpirun", "-n", ranks, "--oversubscribe", "--allow-run-as-root", "--bind-to", "none"};
      auto openmpi = launch;
      if (options_.transport == "tcp")
        openmpi.insert(openmpi.end(), {"--mca", "pml", "ob1", "--mca", "btl", "tcp,self"});
      else
        openmpi.insert(openmpi.end(), {"--mca", "btl_vader_single_copy_mechanism", "none"});
      openmpi.insert(openmpi.end(), {options_.program, "--only", "openmpi in place", "--json"});
      run_one(options_.transport == "tcp" ? "openmpi tcp" : "openmpi without cma", openmpi, limits);
      auto gloo = launch;
      gloo.insert(gloo.end(), {"-x", "MASTER_ADDR=127.0.0.1", "-x", "MASTER_PORT=29511",
                               options_.python, script("gloo_all_reduce.py")});
      run_one("gloo", gloo, limits);
    }
    communicator_.barrier();
  }

  void run_one(const std::string& name, std::vector<std::string> command,
               const std::vector<std::string>& limits) {
    command.insert(command.end(), limits.begin(), limits.end());
    for (const auto& [bytes, microseconds] : run_peer(command)) add(name, bytes, microseconds);
  }

  static std::string script(const std::string& name) {
    return concat(DST_BENCH_SOURCES, "/", name);
  }

  // Microseconds of a contestant, or of the best of those whose names begin so; 0 if there is none.
  double time_of(size_t bytes, const std::string& prefix) const {
    double best = 0;
    for (const auto& [name, times] : medians_.at(bytes)) {
      const double time = median(times);
      if (name.starts_with(prefix) && (best == 0 || time < best)) best = time;
    }
    return best;
  }

  void report() const {
    if (!options_.json) print_table();
    for (const auto& [bytes, contestants] : medians_) {
      for (const auto& [name, times] : contestants) {
        if (name == options_.only) print_json(bytes, name, median(times), "", 0);
        if (name != "arena" && name != "private") continue;
        for (const char* peer : {"openmpi", "gloo", "memcpy"}) {
          if (const double theirs = time_of(bytes, peer))
            print_json(bytes, name, median(times), peer, theirs);
        }
      }
    }
  }

  void print_table() const {
    std::printf("%12s %22s %12s %10s\n", "bytes", "contestant", "median us", "busbw GB/s");
    const int n = communicator_.size();
    for (const auto& [bytes, contestants] : medians_) {
      for (const auto& [name, times] : contestants) {
        const double time = median(times);
        std::printf("%12zu %22s %12.1f %10.2f\n", bytes, name.c_str(), time,
                    2.0 * (n - 1) / n * static_cast<double>(bytes) / time / 1e3);
      }
    }
  }

  void print_json(size_t bytes, const std::string& mode, double time, const std::string& peer,
                  double theirs) const {
    std::string comparison;
    if (!peer.empty())
      comparison = concat("\"peer\": \"", peer, "\", \"peer_value\": ", fixed(theirs, 2),
                          ", \"ratio\": ", fixed(theirs / time, 3), ", ");
    std::printf("%s\n", concat("{\"name\": \"all_reduce\", \"value\": ", fixed(time, 2),
                               ", \"unit\": \"us\", ", comparison, "\"config\": {\"bytes\": ",
                               bytes, ", \"ranks\": ", communicator_.size(),
                               ", \"dtype\": \"float32\", \"transport\": \"",
                               communicator_.transport(), "\", \"mode\": \"", mode, "\"}}")
                            .c_str());
  }

  const Options& options_;
  Communicator& communicator_;
  Timer timer_;
  std::unique_ptr<SharedBuffer> arena_;
  std::vector<float> private_, in_, out_;
  std::vector<Contestant> contestants_;
  std::map<size_t, std::map<std::string, std::vector<double>>> medians_;  // by bytes and name
};

Options parse(int count, char** values) {
  Options options;
  options.program = values[0];
  CLI::App app("all_reduce of ours, OpenMPI and torch's Gloo in one run");
  app.add_option("--peers", options.peers)->check(CLI::IsMember({"openmpi", "all"}));
  app.add_option("--transport", options.transport)->check(CLI::IsMember({"shm", "tcp"}));
  app.add_option("--only", options.only, "one contestant, as JSON without ratios");
  app.add_option("--python", options.python, "a Python with torch, for Gloo");
  app.add_option("--algorithm", options.algorithm, "of tcp");
  app.add_option("--credentials", options.credentials, "TLS with what make_certificates.sh made");
  app.add_option("--max-bytes", options.max_bytes);
  app.add_option("--rounds", options.rounds)->check(CLI::PositiveNumber);
  app.add_option("--seconds", options.seconds, "of measuring, per size, round and contestant");
  app.add_flag("--json", options.json, "no table");
  try {
    app.parse(count, values);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  return options;
}

}  // namespace
}  // namespace deepseek_train::bench

int main(int count, char** values) try {
  using namespace deepseek_train;
  const auto options = bench::parse(count, values);
  bench::allow_choice_of_algorithms();
  MPI_Init(&count, &values);
  collectives::CommunicatorOptions communication;
  communication.launch = collectives::launch_info_from_environment();
  communication.launch.cache_folder.clear();  // what is chosen now is what is measured
  communication.transport = options.transport;
  communication.algorithm = options.algorithm;
  if (!options.credentials.empty()) {
    communication.identity.credentials = folder_credentials(
        posix_env(), options.credentials, concat("rank", communication.launch.rank));
    communication.identity.job = "spiffe://bench.example/job";
  }
  communication.timeout = std::chrono::minutes(30);  // ranks wait while peers are measured
  const auto communicator = collectives::make_communicator(communication);
  bench::Bench(options, *communicator).run();
  MPI_Finalize();
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_all_reduce: %s\n", error.what());
  MPI_Abort(MPI_COMM_WORLD, 1);
}
