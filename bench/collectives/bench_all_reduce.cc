// all_reduce of ours against MPI's, interleaved in one run. Start under mpirun:
//   mpirun -n 2 bench_all_reduce [--max-bytes N] [--rounds N] [--seconds S] [--transport shm|tcp]
//   [--dtype float32|bf16] [--min-bytes N] [--algorithm auto|tree|ring] [--credentials FOLDER]
//
// --credentials (with --transport tcp) runs ours under TLS, with what make_certificates.sh has put
// into the folder. MPI over TCP instead of shared memory: mpirun --mca pml ob1 --mca btl tcp,self.
//
// Every rank rewrites its input before every iteration, so that nobody profits from data left in
// place; the time of an iteration is that of the slowest rank. Per size and contestant: the median
// of a round's iterations, then the median of the rounds. Results are checked in every round. After
// the table, one JSON object per line (design section 8).
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "deepseek_train/collectives/communicator.h"
#include "deepseek_train/core/error.h"

namespace {

using namespace deepseek_train;
using namespace deepseek_train::collectives;

struct Arguments {
  size_t min_bytes = 4096;
  size_t max_bytes = size_t{256} << 20;
  int rounds = 5;
  double seconds = 0.2;  // of measuring per size, round and contestant
  std::string transport = "shm";
  std::string dtype = "float32";
  std::string algorithm = "auto";
  std::string credentials;
};

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  DST_CHECK_AS(NotFound, file, "no file ", path, "; run bench/collectives/make_certificates.sh");
  return {std::istreambuf_iterator<char>(file), {}};
}

// Files that stay as they are.
class FolderCredentials : public CredentialSource {
 public:
  FolderCredentials(const std::string& folder, int rank)
      : credentials_(std::make_shared<Credentials>(
            Credentials{read_text(concat(folder, "/rank", rank, ".crt")),
                        read_text(concat(folder, "/rank", rank, ".key")),
                        read_text(folder + "/ca.crt")})) {}
  std::shared_ptr<const Credentials> current() override { return credentials_; }

 private:
  std::shared_ptr<const Credentials> credentials_;
};

Arguments parse(int count, char** values) {
  Arguments arguments;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = values[i], value = values[i + 1];
    if (name == "--max-bytes")
      arguments.max_bytes = std::stoull(value);
    else if (name == "--min-bytes")
      arguments.min_bytes = std::stoull(value);
    else if (name == "--algorithm")
      arguments.algorithm = value;
    else if (name == "--credentials")
      arguments.credentials = value;
    else if (name == "--rounds")
      arguments.rounds = std::stoi(value);
    else if (name == "--seconds")
      arguments.seconds = std::stod(value);
    else if (name == "--transport")
      arguments.transport = value;
    else if (name == "--dtype")
      arguments.dtype = value;
    else
      throw InvalidArgument(concat("unknown option ", name));
  }
  DST_CHECK(arguments.dtype == "float32" || arguments.dtype == "bf16", "--dtype ", arguments.dtype,
            "; wanted float32 or bf16");
  return arguments;
}

// One way to reduce one buffer.
struct Contestant {
  std::string name;
  std::byte* data;
  std::function<void(size_t bytes)> all_reduce;
  std::vector<double> round_medians = {};  // seconds, of the size at hand
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

class Bench {
 public:
  Bench(Arguments arguments, Communicator& communicator)
      : arguments_(std::move(arguments)),
        communicator_(communicator),
        dtype_(arguments_.dtype == "bf16" ? DType::kBFloat16 : DType::kFloat32),
        arena_(communicator.allocate_shared(arguments_.max_bytes)),
        private_(arguments_.max_bytes),
        mpi_(arguments_.max_bytes) {
    const auto ours = [this](std::byte* data) {
      return [this, data](size_t bytes) {
        if (dtype_ == DType::kBFloat16)
          communicator_.all_reduce(std::span(reinterpret_cast<BFloat16*>(data), bytes / 2));
        else
          communicator_.all_reduce(std::span(reinterpret_cast<float*>(data), bytes / 4));
      };
    };
    if (arena_->is_mapped_by_peers()) {
      auto* data = static_cast<std::byte*>(arena_->data());
      contestants_.push_back({"arena", data, ours(data)});
    }
    contestants_.push_back({"private", private_.data(), ours(private_.data())});
    // MPI has no bf16 of its own; it is given the same number of bytes as floats.
    contestants_.push_back({"mpi", mpi_.data(), [this](size_t bytes) {
                              MPI_Allreduce(MPI_IN_PLACE, mpi_.data(), static_cast<int>(bytes / 4),
                                            MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
                            }});
  }

  void run() {
    if (communicator_.rank() == 0)
      std::printf("%12s %12s %12s %12s %10s\n", "bytes", "contestant", "median us", "busbw GB/s",
                  "vs mpi");
    for (size_t bytes = arguments_.min_bytes; bytes <= arguments_.max_bytes; bytes *= 4) measure(bytes);
    if (communicator_.rank() == 0) std::fputs(json_.c_str(), stdout);
  }

 private:
  void measure(size_t bytes) {
    for (auto& contestant : contestants_) contestant.round_medians.clear();
    for (int round = 0; round < arguments_.rounds; ++round) {
      for (auto& contestant : contestants_) {
        verify(contestant, bytes);
        contestant.round_medians.push_back(time_round(contestant, bytes));
      }
    }
    if (communicator_.rank() == 0) report(bytes);
  }

  // Rank + 1 everywhere, so that the sum is known and exact in either type.
  void fill(const Contestant& contestant, size_t bytes, float value) const {
    if (dtype_ == DType::kBFloat16 && contestant.name != "mpi")
      std::fill_n(reinterpret_cast<uint16_t*>(contestant.data), bytes / 2, to_bfloat16(value).bits);
    else
      std::fill_n(reinterpret_cast<float*>(contestant.data), bytes / 4, value);
  }

  void verify(const Contestant& contestant, size_t bytes) {
    fill(contestant, bytes, static_cast<float>(communicator_.rank() + 1));
    synchronize();
    contestant.all_reduce(bytes);
    synchronize();
    const int n = communicator_.size();
    std::vector<std::byte> result(contestant.data, contestant.data + bytes);
    fill(contestant, bytes, static_cast<float>(n * (n + 1) / 2));
    if (std::memcmp(result.data(), contestant.data, bytes) != 0)
      throw Internal(concat(contestant.name, " gives a wrong sum of ", bytes, " bytes"));
    synchronize();
  }

  double time_round(const Contestant& contestant, size_t bytes) {
    const double first = time_once(contestant, bytes);
    const int iterations =
        std::clamp(static_cast<int>(arguments_.seconds / std::max(first, 1e-7)), 3, 5000);
    std::vector<double> times;
    for (int i = 0; i < iterations; ++i) times.push_back(time_once(contestant, bytes));
    return median(times);
  }

  // Seconds of the slowest rank.
  double time_once(const Contestant& contestant, size_t bytes) {
    fill(contestant, bytes, 0);
    synchronize();
    const auto start = std::chrono::steady_clock::now();
    contestant.all_reduce(bytes);
    double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    communicator_.all_reduce(std::span(&seconds, 1), ReduceOp::kMax);
    return seconds;
  }

  void synchronize() { communicator_.barrier(); }

  void report(size_t bytes) {
    const double mpi = median(contestants_.back().round_medians);
    for (const auto& contestant : contestants_) {
      const double seconds = median(contestant.round_medians);
      const int n = communicator_.size();
      const double bus_gb_per_s = 2.0 * (n - 1) / n * static_cast<double>(bytes) / seconds / 1e9;
      std::printf("%12zu %12s %12.1f %12.2f %10.2f\n", bytes, contestant.name.c_str(),
                  seconds * 1e6, bus_gb_per_s, mpi / seconds);
      if (contestant.name == "mpi") continue;
      char line[512];
      std::snprintf(line, sizeof(line),
                    "{\"name\": \"all_reduce\", \"value\": %.2f, \"unit\": \"us\", \"peer\": "
                    "\"openmpi\", \"peer_value\": %.2f, "
                    "\"ratio\": %.3f, \"config\": {\"bytes\": %zu, \"ranks\": %d, \"dtype\": "
                    "\"%s\", \"transport\": \"%s\", "
                    "\"mode\": \"%s\"}}\n",
                    seconds * 1e6, mpi * 1e6, mpi / seconds, bytes, n, arguments_.dtype.c_str(),
                    communicator_.transport().c_str(), contestant.name.c_str());
      json_ += line;
    }
    std::fflush(stdout);
  }

  const Arguments arguments_;
  Communicator& communicator_;
  const DType dtype_;
  std::unique_ptr<SharedBuffer> arena_;
  std::vector<std::byte> private_;
  std::vector<std::byte> mpi_;
  std::vector<Contestant> contestants_;
  std::string json_;
};

}  // namespace

int main(int count, char** values) try {
  MPI_Init(&count, &values);
  const Arguments arguments = parse(count, values);
  CommunicatorOptions options;
  options.launch = launch_info_from_environment();
  options.transport = arguments.transport;
  options.algorithm = arguments.algorithm;
  if (!arguments.credentials.empty()) {
    options.identity.credentials =
        std::make_shared<FolderCredentials>(arguments.credentials, options.launch.rank);
    options.identity.job = "spiffe://bench.example/job";
  }
  const auto communicator = make_communicator(options);
  Bench(arguments, *communicator).run();
  MPI_Finalize();
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_all_reduce: %s\n", error.what());
  MPI_Abort(MPI_COMM_WORLD, 1);
}
