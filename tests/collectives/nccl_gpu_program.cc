// The NCCL backend and host-reduced all-reduce on a real GPU: prints one line a check, "ok" or
// "FAILED", and ends with 1 if one failed. One rank a GPU: alone, or under mpirun.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <numeric>
#include <thread>
#include <vector>

#include "collectives/backends/nccl/gpu_owners.h"
#include "deepseek_train/collectives/host_reduced.h"
#include "deepseek_train/collectives/nccl.h"
#include "deepseek_train/core/error.h"

namespace {

using namespace deepseek_train;
using namespace deepseek_train::collectives;
using Clock = std::chrono::steady_clock;

class GpuChecks {
 public:
  explicit GpuChecks(const LaunchInfo& launch) : launch_(launch), api_(load_gpu_api()) {
    const int device = launch.local_rank;
    check_cuda(api_->cuda, api_->cuda.set_device(device), "cudaSetDevice");
    stream_ = std::make_unique<UniqueStream>(api_);
  }

  int run() {
    int version = 0;
    api_->nccl.get_version(&version);
    std::printf("rank %d of %d: NCCL %d, ncclCommShrink %s, ncclCommRevoke %s\n", launch_.rank,
                launch_.size, version, api_->nccl.comm_shrink ? "yes" : "no",
                api_->nccl.comm_revoke ? "yes" : "no");
    check("a group starts and ends in good order", [&] { make()->barrier(); });
    check("all_reduce of float, in the caller's stream order", [&] { all_reduce<float>(); });
    check("all_reduce of double", [&] { all_reduce<double>(); });
    check("all_reduce of int32", [&] { all_reduce<int32_t>(); });
    check("all_reduce of int8", [&] { all_reduce<int8_t>(); });
    check("reduce_scatter, all_gather, even and uneven", [&] { scatter_and_gather(); });
    check("all_to_all, gather, scatter, broadcast", [&] { exchange(); });
    check("8-bit floats travel", [&] { eight_bit_floats(); });
    check("what NCCL cannot do is refused, and the group goes on", [&] { refused(); });
    check("works waited out of order, and by a stream", [&] { asynchronous(); });
    check("split", [&] { split(); });
    check("registered memory", [&] { registered(); });
    check("abort, then every call fails", [&] { aborted(); });
    check(launch_.size > 1 ? "a missing rank is a timeout, not a hang" : "a short timeout",
          [&] { timed_out(); });
    check("host-reduced all-reduce gives the same", [&] { host_reduced(); });
    measure();
    std::printf("%s: %d checks, %d failed\n", num_failed_ ? "FAILED" : "PASSED", num_checks_,
                num_failed_);
    return num_failed_ ? 1 : 0;
  }

 private:
  void check(const char* name, const std::function<void()>& body) {
    ++num_checks_;
    const auto start = Clock::now();
    std::string error;
    try {
      body();
    } catch (const std::exception& exception) {
      error = exception.what();
    }
    num_failed_ += !error.empty();
    std::printf("%-6s %s (%.0f ms) %s\n", error.empty() ? "ok" : "FAILED", name,
                std::chrono::duration<double, std::milli>(Clock::now() - start).count(),
                error.c_str());
    std::fflush(stdout);
  }

  CommunicatorOptions options() const {
    CommunicatorOptions options;
    options.launch = launch_;
    options.timeout = std::chrono::seconds(30);
    return options;
  }
  std::unique_ptr<Communicator> make() const {
    return make_nccl_communicator(options(), {.stream = stream_->get()});
  }

  // Memory of the device with these values, put there on the caller's stream.
  template <typename T>
  struct Buffer {
    Buffer(const GpuChecks& checks, const std::vector<T>& values)
        : memory(checks.api_, values.size() * sizeof(T) + 1), host(values) {
      checks.copy(memory.data(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice);
    }
    T* data() const { return static_cast<T*>(memory.data()); }
    std::span<T> span() const { return {data(), host.size()}; }
    DeviceMemory memory;
    std::vector<T> host;
  };
  template <typename T>
  Buffer<T> buffer(size_t count, T value) const {
    return {*this, std::vector<T>(count, value)};
  }

  void copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) const {
    check_cuda(api_->cuda, api_->cuda.memcpy_async(to, from, bytes, kind, stream_->get()),
               "cudaMemcpyAsync");
  }
  void finish_stream() const {
    UniqueEvent end(api_);
    end.record(stream_->get());
    while (!end.is_reached()) {
    }
  }
  template <typename T>
  void expect(const char* what, const T* data, const std::vector<T>& wanted) const {
    std::vector<T> found(wanted.size());
    copy(found.data(), data, found.size() * sizeof(T), cudaMemcpyDeviceToHost);
    finish_stream();
    for (size_t i = 0; i < found.size(); ++i)
      DST_CHECK_AS(DataCorruption, found[i] == wanted[i], what, ": element ", i, " is ",
                   static_cast<double>(found[i]), ", wanted ", static_cast<double>(wanted[i]));
  }
  template <typename T>
  void expect_all(const char* what, const T* data, size_t count, T value) const {
    expect(what, data, std::vector<T>(count, value));
  }
  static void expect_true(bool condition, const char* what) {
    DST_CHECK_AS(DataCorruption, condition, what);
  }
  template <typename Error>
  static std::string expect_throw(const std::function<void()>& body) {
    try {
      body();
    } catch (const Error& error) {
      return error.what();
    }
    throw DataCorruption("the error that was wanted did not come");
  }

  template <typename T>
  void all_reduce() const {
    const auto gpu = make();
    for (size_t count : {0, 1, 1000, 1'000'003}) {
      auto data = buffer<T>(count, T(launch_.rank + 1));
      gpu->all_reduce(data.span());
      expect_all("sum", data.data(), count, T(launch_.size * (launch_.size + 1) / 2));
      gpu->all_reduce(data.span(), ReduceOp::kMax);
      expect_all("max", data.data(), count, T(launch_.size * (launch_.size + 1) / 2));
    }
  }

  void scatter_and_gather() const {
    const auto gpu = make();
    const size_t size = launch_.size;
    auto in = buffer<float>(100 * size, 1);
    auto out = buffer<float>(100, 0);
    gpu->reduce_scatter<float>(in.span(), out.span());
    expect_all("reduce_scatter", out.data(), 100, static_cast<float>(size));
    gpu->all_gather<float>(out.span(), in.span());
    expect_all("all_gather", in.data(), 100 * size, static_cast<float>(size));
    std::vector<size_t> counts(size);
    std::iota(counts.begin(), counts.end(), size_t{7});
    const size_t total = std::accumulate(counts.begin(), counts.end(), size_t{0});
    auto all = buffer<float>(total, 2);
    auto mine = buffer<float>(counts[launch_.rank], 0);
    gpu->run({.kind = Collective::kReduceScatter,
              .in = all.data(),
              .out = mine.data(),
              .count = counts[launch_.rank],
              .dtype = DType::kFloat32,
              .in_counts = counts});
    expect_all("uneven reduce_scatter", mine.data(), counts[launch_.rank], 2.0f * size);
    gpu->run({.kind = Collective::kAllGather,
              .in = mine.data(),
              .out = all.data(),
              .count = counts[launch_.rank],
              .dtype = DType::kFloat32,
              .out_counts = counts});
    expect_all("uneven all_gather", all.data(), total, 2.0f * size);
  }

  void exchange() const {
    const auto gpu = make();
    const size_t size = launch_.size;
    auto in = buffer<int32_t>(50 * size, launch_.rank);
    auto out = buffer<int32_t>(50 * size, -1);
    std::vector<int32_t> wanted;
    for (size_t r = 0; r < size; ++r) wanted.insert(wanted.end(), 50, static_cast<int32_t>(r));
    gpu->all_to_all<int32_t>(in.span(), out.span());
    expect("all_to_all", out.data(), wanted);
    auto part = buffer<int32_t>(50, launch_.rank);
    auto gathered = buffer<int32_t>(50 * size, -1);
    gpu->gather<int32_t>(part.span(), gathered.span(), 0);
    if (launch_.rank == 0) expect("gather", gathered.data(), wanted);
    gpu->scatter<int32_t>(gathered.span(), part.span(), 0);
    expect_all("scatter", part.data(), 50, launch_.rank);
    gpu->broadcast(part.span(), 0);
    expect_all("broadcast", part.data(), 50, 0);
  }

  void eight_bit_floats() const {
    const auto gpu = make();
    auto in = buffer<uint8_t>(100, 0x7f);
    auto out = buffer<uint8_t>(100 * launch_.size, 0);
    gpu->run({.kind = Collective::kAllGather,
              .in = in.data(),
              .out = out.data(),
              .count = 100,
              .dtype = DType::kFloat8E4M3});
    expect_all<uint8_t>("all_gather", out.data(), out.host.size(), 0x7f);
  }

  void refused() const {
    const auto gpu = make();
    auto data = buffer<int32_t>(10, 1);
    expect_throw<InvalidArgument>([&] { gpu->all_reduce(data.span(), ReduceOp::kAnd); });
    gpu->all_reduce(data.span());
    expect_all("sum", data.data(), 10, launch_.size);
  }

  void asynchronous() const {
    const auto gpu = make();
    auto a = buffer<float>(1'000'000, 1);
    auto b = buffer<float>(1'000'000, 2);
    auto first = gpu->all_reduce_async(a.data(), a.host.size(), DType::kFloat32);
    auto second = gpu->all_reduce_async(b.data(), b.host.size(), DType::kFloat32);
    make_stream_wait(*second, stream_->get());
    expect_all("second", b.data(), b.host.size(), 2.0f * launch_.size);
    second->wait();
    first->wait();
    expect_true(first->is_completed(), "a work that was waited for is not completed");
    expect_all("first", a.data(), a.host.size(), 1.0f * launch_.size);
  }

  void split() const {
    const auto gpu = make();
    const auto part = gpu->split(0, -launch_.rank);
    expect_true(part->rank() == launch_.size - 1 - launch_.rank, "ranks are not in key order");
    auto data = buffer<int32_t>(1, part->rank());
    part->broadcast(data.span(), part->size() - 1);
    expect_all("broadcast", data.data(), 1, launch_.size - 1);
    expect_true(gpu->split(-1, 0) == nullptr, "a negative color got a group");
  }

  void registered() const {
    std::unique_ptr<SharedBuffer> memory;
    {
      const auto gpu = make();
      memory = gpu->allocate_shared(4 << 20);
      expect_all("fresh memory", memory->as<float>().data(), memory->as<float>().size(), 0.0f);
      const std::vector<float> ones(memory->as<float>().size(), 1);
      copy(memory->data(), ones.data(), memory->size_bytes(), cudaMemcpyHostToDevice);
      gpu->all_reduce(memory->as<float>());
      expect_all("sum", memory->as<float>().data(), ones.size(), 1.0f * launch_.size);
    }
    memory.reset();  // after its group
  }

  void aborted() const {
    const auto gpu = make();
    gpu->barrier();
    gpu->abort("a test");
    expect_throw<PeerFailure>([&] { gpu->barrier(); });
  }

  // Rank 1 comes late. Alone nobody can be missed: the group only has to work with a short timeout.
  void timed_out() const {
    auto short_options = options();
    short_options.timeout = std::chrono::milliseconds(500);
    const auto gpu = make_nccl_communicator(short_options, {.stream = stream_->get()});
    auto data = buffer<float>(1000, 1);
    gpu->all_reduce(data.span());
    if (launch_.size == 1) return;
    if (launch_.rank == 1) std::this_thread::sleep_for(std::chrono::seconds(2));
    const auto text = expect_throw<Error>([&] { gpu->all_reduce(data.span()); });
    std::printf("       %s\n", text.c_str());
  }

  void host_reduced() const {
    const auto host = make_communicator(options());
    const auto reduced = make_host_reduced_all_reduce(
        *host, {.device = launch_.local_rank, .stream = stream_->get(), .chunk_bytes = 1 << 20});
    for (size_t count : {1, 1000, 5'000'001}) {
      auto data = buffer<float>(count, launch_.rank + 1.0f);
      reduced->all_reduce(data.data(), count, DType::kFloat32);
      expect_all("sum", data.data(), count, launch_.size * (launch_.size + 1) / 2.0f);
    }
  }

  template <typename Body>
  double median_ms(const Body& body) const {
    std::vector<double> times;
    for (int i = 0; i < 11; ++i) {
      const auto start = Clock::now();
      body();
      times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  // Host-reduced against the two copies alone, one after the other, through pinned memory.
  void measure() const {
    const auto gpu = make();
    const auto host = make_communicator(options());
    for (size_t mebibytes : {16, 64, 256}) {
      const size_t bytes = mebibytes << 20;
      auto data = buffer<float>(bytes / 4, 1);
      std::vector<std::byte> pinned(bytes);
      check_cuda(api_->cuda, api_->cuda.host_register(pinned.data(), bytes, 0), "cudaHostRegister");
      const double nccl = median_ms([&] { gpu->all_reduce(data.span()); });
      const double copies = median_ms([&] {
        copy(pinned.data(), data.data(), bytes, cudaMemcpyDeviceToHost);
        copy(data.data(), pinned.data(), bytes, cudaMemcpyHostToDevice);
        finish_stream();
      });
      for (size_t chunk_mebibytes : {1, 4, 16}) {
        const auto reduced =
            make_host_reduced_all_reduce(*host, {.device = launch_.local_rank,
                                                 .stream = stream_->get(),
                                                 .chunk_bytes = chunk_mebibytes << 20});
        const double ours =
            median_ms([&] { reduced->all_reduce(data.data(), bytes / 4, DType::kFloat32); });
        std::printf(
            "%4zu MiB, %zu ranks: host-reduced in chunks of %2zu MiB %.3f ms; copies to the host "
            "and back, not overlapped, %.3f ms (ratio %.2f); NCCL %.3f ms\n",
            mebibytes, static_cast<size_t>(launch_.size), chunk_mebibytes, ours, copies,
            copies / ours, nccl);
      }
      api_->cuda.host_unregister(pinned.data());
    }
  }

  LaunchInfo launch_;
  GpuApiPointer api_;
  std::unique_ptr<UniqueStream> stream_;
  int num_checks_ = 0;
  int num_failed_ = 0;
};

}  // namespace

int main() {
  try {
    LaunchInfo launch = launch_info_from_environment();
    if (launch.job_id.empty())
      launch.job_id = concat("gpu-checks-", Clock::now().time_since_epoch().count());
    return GpuChecks(launch).run();
  } catch (const std::exception& error) {
    std::printf("FAILED: %s\n", error.what());
    return 1;
  }
}
