// MPI under the same links and the same timed computation as bench_scaling; started by scaling.sh.
// MPI moves bytes only when asked to, so the "computation" polls its requests every 200 us.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kBuckets = 25;

struct Bench {
  std::vector<float> data;
  int repeats = 3;
  int rank = 0, size = 1;

  // Median seconds of the slowest rank.
  double time(const std::function<void()>& body) {
    std::vector<double> times;
    for (int i = 0; i < repeats; ++i) {
      std::fill(data.begin(), data.end(), static_cast<float>(rank + 1));
      MPI_Barrier(MPI_COMM_WORLD);
      const auto start = Clock::now();
      body();
      double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      MPI_Allreduce(MPI_IN_PLACE, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
      times.push_back(seconds);
    }
    std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
    return times[times.size() / 2];
  }

  void all_reduce() {
    MPI_Allreduce(MPI_IN_PLACE, data.data(), static_cast<int>(data.size()), MPI_FLOAT, MPI_SUM,
                  MPI_COMM_WORLD);
  }

  void overlapped_step(double computation) {
    const auto start = Clock::now();
    const size_t bucket = data.size() / kBuckets;
    std::vector<MPI_Request> requests;
    int all_done = 0;
    const auto poll = [&] {
      MPI_Testall(static_cast<int>(requests.size()), requests.data(), &all_done,
                  MPI_STATUSES_IGNORE);
    };
    for (int b = 0; b < kBuckets; ++b) {
      const auto release =
          start + std::chrono::duration<double>(computation * (1 + 2.0 * (b + 1) / kBuckets) / 3);
      while (Clock::now() < release) {
        poll();
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
      requests.emplace_back();
      MPI_Iallreduce(MPI_IN_PLACE, data.data() + b * bucket, static_cast<int>(bucket), MPI_FLOAT,
                     MPI_SUM, MPI_COMM_WORLD, &requests.back());
    }
    MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
  }

  void report(const char* name, double value, const char* unit) const {
    if (rank != 0) return;
    std::printf(
        "{\"name\": \"scaling_%s\", \"value\": %.4f, \"unit\": \"%s\", \"config\": "
        "{\"bytes\": %zu, \"ranks\": %d, \"dtype\": \"float32\", \"transport\": "
        "\"openmpi-tcp\"}}\n",
        name, value, unit, data.size() * sizeof(float), size);
    std::fflush(stdout);
  }
};

}  // namespace

int main(int count, char** values) {
  size_t bytes = 16 << 20;
  double link_mbit = 100;
  Bench bench;
  CLI::App app("MPI's side of the scaling measurement; see scaling.sh");
  app.add_option("--bytes", bytes);
  app.add_option("--link-mbit", link_mbit);
  app.add_option("--repeats", bench.repeats);
  CLI11_PARSE(app, count, values);
  MPI_Init(&count, &values);
  MPI_Comm_rank(MPI_COMM_WORLD, &bench.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &bench.size);
  bench.data.resize(bytes / sizeof(float) / kBuckets * kBuckets);
  const double n = bench.size;
  const double wire_bytes =
      2 * (n - 1) / n * static_cast<double>(bench.data.size() * sizeof(float));
  const double alone = bench.time([&] { bench.all_reduce(); });
  const bool is_right = std::all_of(bench.data.begin(), bench.data.end(), [&](float value) {
    return value == static_cast<float>(bench.size * (bench.size + 1) / 2);
  });
  if (!is_right) {
    std::fprintf(stderr, "MPI gives a wrong sum\n");
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  bench.report("ring_line_rate", wire_bytes / alone / (link_mbit * 1e6 / 8),
               "share of the link's rate");
  for (const double share : {0.5, 1.0, 2.0}) {
    const double computation = alone / share;
    const double step = bench.time([&] { bench.overlapped_step(computation); });
    char name[32];
    std::snprintf(name, sizeof(name), "weak_%.1f", share);
    bench.report(name, computation / step, "T / step");
  }
  MPI_Finalize();
  return 0;
}
