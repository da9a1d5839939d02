// One rank of the scaling measurement; scaling.sh starts 16 of them, each in a network namespace
// with a rate-limited link (never "16 nodes"). Prints, on rank 0, one JSON object per line, with
// the share of all processors that was busy (cpu) and that of it which the ranks took (cpu_ranks;
// the rest is the kernel's work on the links):
//
//   goodput   the bytes a ring all_reduce sends, to the next rank, with no reduction
//   ring      all_reduce alone: share of that goodput, and of the link's rate
//   time      seconds of an all_reduce of several sizes, for the cost model (cost_model.py)
//   int8      all_reduce with int8 blocks on the wire: how many times faster than fp32
//   weak      a timed sleep T stands for the computation and releases 25 equal buckets over its
//   last
//             two thirds; T is 1/0.5, 1 and 1/2 of what the all_reduce alone takes; the figure is
//             T / (time of the step)
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <thread>

#include "bench/collectives/timing.h"
#include "deepseek_train/collectives/communicator.h"
#include "deepseek_train/collectives/compressed.h"
#include "deepseek_train/core/credentials.h"
#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::bench {
namespace {

using namespace deepseek_train::collectives;
using Clock = std::chrono::steady_clock;

constexpr int kBuckets = 25;

// Busy and total ticks of all processors.
struct CpuTicks {
  double busy = 0, total = 0;
  static CpuTicks now() {
    std::ifstream file("/proc/stat");
    std::string label;
    file >> label;
    CpuTicks ticks;
    for (int field = 0; field < 8; ++field) {
      double value = 0;
      file >> value;
      ticks.total += value;
      if (field != 3 && field != 4) ticks.busy += value;  // idle, iowait
    }
    return ticks;
  }
};

// Seconds of this process, kernel included.
double own_seconds() {
  rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Scaling {
 public:
  Scaling(Communicator& communicator, size_t bytes, double link_mbit, int repeats)
      : communicator_(communicator),
        data_(bytes / sizeof(float) / kBuckets * kBuckets),
        link_bytes_per_s_(link_mbit * 1e6 / 8),
        repeats_(repeats) {}

  void run() {
    const double goodput = time([this] { ring_traffic(); });
    report("goodput", wire_bytes() / goodput / link_bytes_per_s_, "share of the link's rate",
           "link", 1);
    const double alone = time([this] { communicator_.all_reduce(std::span(data_)); });
    check_sum();
    report("ring", goodput / alone, "share of the goodput", "goodput", goodput);
    report("ring_line_rate", wire_bytes() / alone / link_bytes_per_s_, "share of the link's rate",
           "link", 1);
    measure_int8(alone);
    measure_sizes();
    for (const double share : {0.5, 1.0, 2.0}) {
      const double computation = alone / share;
      const double step = time([&] { overlapped_step(computation); });
      report(concat("weak_", fixed(share, 1)), computation / step, "T / step", "no communication",
             1);
    }
  }

 private:
  double wire_bytes() const {
    const double n = communicator_.size();
    return 2 * (n - 1) / n * static_cast<double>(data_.size() * sizeof(float));
  }

  // Median seconds of the slowest rank.
  template <typename Body>
  double time(const Body& body) {
    std::vector<double> times;
    const auto before = CpuTicks::now();
    const double own_before = own_seconds();
    const auto begin = Clock::now();
    for (int i = 0; i < repeats_; ++i) {
      std::fill(data_.begin(), data_.end(), static_cast<float>(communicator_.rank() + 1));
      communicator_.barrier();
      const auto start = Clock::now();
      body();
      double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      communicator_.all_reduce(std::span(&seconds, 1), ReduceOp::kMax);
      times.push_back(seconds);
    }
    const auto after = CpuTicks::now();
    double own = own_seconds() - own_before;
    communicator_.all_reduce(std::span(&own, 1));
    cpu_ranks_ = own / std::chrono::duration<double>(Clock::now() - begin).count() /
                 std::thread::hardware_concurrency();
    cpu_ = (after.busy - before.busy) / (after.total - before.total);
    return median(times);
  }

  void measure_int8(double fp32_seconds) {
    CompressedAllReduce compressed(data_.size(), {.has_error_feedback = false});
    const double seconds = time([&] { compressed.all_reduce(communicator_, std::span(data_)); });
    const double n = communicator_.size(), wanted = n * (n + 1) / 2;
    const double bound =
        CompressedAllReduce::error_bound(WireFormat::kInt8Blocks, wanted, communicator_.size());
    for (const float value : data_)
      DST_ASSERT(std::abs(value - wanted) <= bound, "a sum outside of the bound: ", value);
    report("int8", fp32_seconds / seconds, "times faster than float32", "float32", fp32_seconds);
  }

  void measure_sizes() {
    for (size_t bytes = 4096; bytes <= data_.size() * sizeof(float); bytes *= 4) {
      const auto part = std::span(data_).first(bytes / sizeof(float));
      const double seconds = time([&] { communicator_.all_reduce(part); });
      if (communicator_.rank() != 0) continue;
      std::printf("%s\n", concat("{\"name\": \"scaling_time\", \"value\": ", fixed(seconds, 6),
                                 ", \"unit\": \"s\", \"config\": {\"bytes\": ", bytes,
                                 ", \"ranks\": ", communicator_.size(), ", \"transport\": \"",
                                 communicator_.transport(), "\"}}")
                              .c_str());
    }
  }

  // To the next rank what a ring all_reduce would send it, all at once.
  void ring_traffic() {
    const int n = communicator_.size();
    const auto bytes = static_cast<size_t>(wire_bytes());
    traffic_out_.resize(bytes);
    traffic_in_.resize(bytes);
    CollectiveCall call{.kind = Collective::kAllToAll,
                        .in = traffic_out_.data(),
                        .out = traffic_in_.data(),
                        .dtype = DType::kUInt8};
    call.in_counts.assign(n, 0);
    call.out_counts.assign(n, 0);
    call.in_counts[(communicator_.rank() + 1) % n] = bytes;
    call.out_counts[(communicator_.rank() + n - 1) % n] = bytes;
    communicator_.run(call);
  }

  void overlapped_step(double computation) {
    const auto start = Clock::now();
    const size_t bucket = data_.size() / kBuckets;
    std::vector<std::shared_ptr<Work>> works;
    for (int b = 0; b < kBuckets; ++b) {
      const double release = computation * (1 + 2.0 * (b + 1) / kBuckets) / 3;
      std::this_thread::sleep_until(start + std::chrono::duration<double>(release));
      works.push_back(
          communicator_.all_reduce_async(data_.data() + b * bucket, bucket, DType::kFloat32));
    }
    for (const auto& work : works) work->wait();
  }

  void check_sum() const {
    const int n = communicator_.size();
    for (const float value : data_)
      DST_ASSERT(value == static_cast<float>(n * (n + 1) / 2), "a wrong sum: ", value);
  }

  void report(const std::string& name, double value, const char* unit, const char* peer,
              double peer_value) const {
    if (communicator_.rank() != 0) return;
    std::printf(
        "%s\n",
        concat("{\"name\": \"scaling_", name, "\", \"value\": ", fixed(value, 4), ", \"unit\": \"",
               unit, "\", \"peer\": \"", peer, "\", \"peer_value\": ", fixed(peer_value, 4),
               ", \"ratio\": ", fixed(value, 4), ", \"config\": {\"bytes\": ",
               data_.size() * sizeof(float), ", \"ranks\": ", communicator_.size(),
               ", \"dtype\": \"float32\", \"transport\": \"", communicator_.transport(),
               "\", \"cpu\": ", fixed(cpu_, 2), ", \"cpu_ranks\": ", fixed(cpu_ranks_, 2),
               cpu_ >= 0.6 ? ", \"void\": true" : "", "}}")
            .c_str());
    std::fflush(stdout);
  }

  Communicator& communicator_;
  std::vector<float> data_;
  std::vector<std::byte> traffic_out_, traffic_in_;
  const double link_bytes_per_s_;
  const int repeats_;
  double cpu_ = 0, cpu_ranks_ = 0;
};

}  // namespace
}  // namespace deepseek_train::bench

int main(int count, char** values) try {
  using namespace deepseek_train;
  size_t bytes = 16 << 20;
  double link_mbit = 100;
  int repeats = 3;
  std::string credentials;
  collectives::CommunicatorOptions options;
  CLI::App app("One rank of the scaling measurement; see scaling.sh");
  app.add_option("--bytes", bytes);
  app.add_option("--link-mbit", link_mbit);
  app.add_option("--repeats", repeats)->check(CLI::PositiveNumber);
  app.add_option("--credentials", credentials, "TLS with what make_certificates.sh made");
  CLI11_PARSE(app, count, values);
  options.launch = collectives::launch_info_from_environment();
  options.launch.cache_folder.clear();  // links are made anew for every run
  options.insecure_network = credentials.empty();
  if (!credentials.empty())
    options.identity = {.credentials = folder_credentials(posix_env(), credentials,
                                                          concat("rank", options.launch.rank)),
                        .job = "spiffe://bench.example/job"};
  options.timeout = std::chrono::seconds(120);
  const auto communicator = collectives::make_communicator(options);
  bench::Scaling(*communicator, bytes, link_mbit, repeats).run();
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_scaling: %s\n", error.what());
  return 1;
}
