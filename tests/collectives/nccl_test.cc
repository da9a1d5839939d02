// The NCCL backend over a model of CUDA and NCCL: what it asks of them, with several ranks, and how
// it ends when something goes wrong. The real libraries: nccl_gpu_program.cc.
#include "deepseek_train/collectives/nccl.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>

#include "collectives/backends/nccl/nccl_communicator.h"
#include "deepseek_train/core/error.h"
#include "tests/collectives/fake_gpu.h"
#include "tests/collectives/values.h"
#include "tests/support/rank_threads.h"

namespace deepseek_train::collectives {
namespace {

using namespace std::chrono_literals;
using testing::exact_values;
using testing::fake_gpu_api;
using testing::fake_gpu_state;
using testing::same_bits;

using GpuBody = std::function<void(Communicator& gpu, Communicator& host)>;

CommunicatorOptions options_for(std::chrono::milliseconds timeout) {
  CommunicatorOptions options;
  options.transport = "tcp";
  options.timeout = timeout;
  return options;
}

std::unique_ptr<Communicator> make_gpu(Communicator& host, bool has_revoke = true) {
  return make_nccl_communicator({fake_gpu_api(has_revoke), host.rank()}, host.split(0, host.rank()),
                                nullptr);
}

// Runs the body on every rank with a host group to compare with.
void run_gpus(int size, const GpuBody& body) {
  test_support::run_ranks(
      size, [&](Communicator& host) { body(*make_gpu(host), host); }, options_for(30s));
}

std::vector<std::string> errors_of_gpus(int size, std::chrono::milliseconds timeout,
                                        bool has_revoke, const GpuBody& body) {
  return test_support::errors_of_ranks(
      size, [&](Communicator& host) { body(*make_gpu(host, has_revoke), host); },
      options_for(timeout));
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Runs the call on the GPU and on the host, and compares.
template <typename T>
void expect_same(Communicator& gpu, Communicator& host, CollectiveCall call, size_t in_size,
                 size_t out_size) {
  const auto in = exact_values<T>(in_size, host.rank());
  const bool is_in_place =
      call.kind == Collective::kAllReduce || call.kind == Collective::kBroadcast;
  std::vector<T> outs[2];
  for (bool is_gpu : {false, true}) {
    std::vector<T>& out = outs[is_gpu];
    out = is_in_place ? in : std::vector<T>(out_size);
    call.in = is_in_place ? out.data() : in.data();
    call.out = out.data();
    call.dtype = dtype_of<T>();
    (is_gpu ? gpu : host).run(call);
  }
  EXPECT_TRUE(same_bits(outs[0], outs[1]))
      << name_of(dtype_of<T>()) << ", kind " << static_cast<int>(call.kind);
}

template <typename T>
void expect_all_kinds_same(Communicator& gpu, Communicator& host) {
  const int size = host.size();
  const size_t count = 1001;
  for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax, ReduceOp::kProd}) {
    expect_same<T>(gpu, host, {.kind = Collective::kAllReduce, .count = count, .op = op}, count,
                   count);
    expect_same<T>(gpu, host, {.kind = Collective::kReduceScatter, .count = count, .op = op},
                   count * size, count);
  }
  expect_same<T>(gpu, host, {.kind = Collective::kAllGather, .count = count}, count, count * size);
  expect_same<T>(gpu, host, {.kind = Collective::kAllToAll, .count = count}, count * size,
                 count * size);
  for (int root = 0; root < size; ++root) {
    expect_same<T>(gpu, host, {.kind = Collective::kBroadcast, .count = count, .root = root}, count,
                   count);
    expect_same<T>(gpu, host, {.kind = Collective::kGather, .count = count, .root = root}, count,
                   count * size);
    expect_same<T>(gpu, host, {.kind = Collective::kScatter, .count = count, .root = root},
                   count * size, count);
  }
}

TEST(NcclTest, EveryCollectiveGivesWhatTheHostGives) {
  for (int size : {1, 2, 3, 4}) {
    run_gpus(size, [](Communicator& gpu, Communicator& host) {
      EXPECT_EQ(gpu.transport(), "nccl");
      EXPECT_EQ(gpu.rank(), host.rank());
      expect_all_kinds_same<float>(gpu, host);
      expect_all_kinds_same<double>(gpu, host);
      expect_all_kinds_same<BFloat16>(gpu, host);
      expect_all_kinds_same<Float16>(gpu, host);
      expect_all_kinds_same<int8_t>(gpu, host);
      expect_all_kinds_same<uint8_t>(gpu, host);
      expect_all_kinds_same<int32_t>(gpu, host);
      expect_all_kinds_same<int64_t>(gpu, host);
      gpu.barrier();
    });
  }
}

TEST(NcclTest, PartsOfDifferentSizes) {
  for (int size : {1, 2, 3, 4}) {
    run_gpus(size, [size](Communicator& gpu, Communicator& host) {
      const size_t rank = host.rank();
      std::vector<size_t> counts(size), to_all(size), from_all(size);
      for (size_t r = 0; r < counts.size(); ++r) {
        counts[r] = 100 * ((r + 1) % size);  // one of them empty
        to_all[r] = 10 * rank + r;
        from_all[r] = 10 * r + rank;
      }
      const auto total = [](const auto& parts) {
        return std::accumulate(parts.begin(), parts.end(), size_t{0});
      };
      expect_same<float>(
          gpu, host,
          {.kind = Collective::kReduceScatter, .count = counts[rank], .in_counts = counts},
          total(counts), counts[rank]);
      expect_same<float>(
          gpu, host, {.kind = Collective::kAllGather, .count = counts[rank], .out_counts = counts},
          counts[rank], total(counts));
      expect_same<float>(
          gpu, host, {.kind = Collective::kAllToAll, .in_counts = to_all, .out_counts = from_all},
          total(to_all), total(from_all));
    });
  }
}

TEST(NcclTest, EightBitFloatsTravelAndBoolsAreReduced) {
  run_gpus(2, [](Communicator& gpu, Communicator& host) {
    const std::vector<uint8_t> in(9, static_cast<uint8_t>(200 + host.rank()));
    std::vector<uint8_t> out(18);
    gpu.run({.kind = Collective::kAllGather,
             .in = in.data(),
             .out = out.data(),
             .count = 9,
             .dtype = DType::kFloat8E4M3});
    EXPECT_TRUE(out[0] == 200 && out[8] == 200 && out[9] == 201 && out[17] == 201);
    bool flags[] = {host.rank() == 0, true};
    gpu.all_reduce(std::span<bool>(flags), ReduceOp::kAnd);
    EXPECT_TRUE(!flags[0] && flags[1]);
    flags[0] = host.rank() == 0;
    gpu.all_reduce(std::span<bool>(flags), ReduceOp::kOr);
    EXPECT_TRUE(flags[0] && flags[1]);
  });
}

TEST(NcclTest, WhatNcclCannotDoIsRefusedAndTheGroupGoesOn) {
  run_gpus(2, [](Communicator& gpu, Communicator&) {
    std::vector<int32_t> data(3, 1);
    EXPECT_THROW(gpu.all_reduce(std::span(data), ReduceOp::kAnd), InvalidArgument);
    std::vector<int8_t> narrow(3, 1);
    EXPECT_THROW(gpu.all_reduce(std::span(narrow), ReduceOp::kAvg), InvalidArgument);
    EXPECT_THROW(gpu.send(data.data(), 4, gpu.rank()), InvalidArgument);
    gpu.all_reduce(std::span(data));
    EXPECT_EQ(data, std::vector<int32_t>(3, 2));
  });
}

TEST(NcclTest, SendAndRecv) {
  run_gpus(3, [](Communicator& gpu, Communicator&) {
    std::vector<int32_t> data(1000, gpu.rank());
    if (gpu.rank() == 2) gpu.send(data.data(), 4000, 0);
    if (gpu.rank() == 0) gpu.recv(data.data(), 4000, 2);
    EXPECT_EQ(data[999], gpu.rank() == 1 ? 1 : 2);
    gpu.barrier();
  });
}

TEST(NcclTest, AsynchronousCallsEndInAnyOrderOfWaiting) {
  run_gpus(3, [](Communicator& gpu, Communicator&) {
    std::vector<std::vector<float>> data(10, std::vector<float>(100, 1));
    std::vector<std::shared_ptr<Work>> works;
    for (auto& values : data)
      works.push_back(gpu.all_reduce_async(values.data(), 100, DType::kFloat32));
    std::reverse(works.begin(), works.end());
    for (auto& work : works) work->wait();
    EXPECT_TRUE(works[0]->is_completed());
    for (auto& values : data) EXPECT_EQ(values, std::vector<float>(100, 3));

    std::vector<CollectiveCall> calls;
    for (auto& values : data)
      calls.push_back({.kind = Collective::kAllReduce,
                       .in = values.data(),
                       .out = values.data(),
                       .count = 100,
                       .dtype = DType::kFloat32});
    auto work = gpu.start_group(calls);
    make_stream_wait(*work, nullptr);
    work->wait();
    for (auto& values : data) EXPECT_EQ(values, std::vector<float>(100, 9));
  });
}

TEST(NcclTest, TheCallersStreamComesFirst) {
  run_gpus(2, [](Communicator& gpu, Communicator&) {
    const auto api = fake_gpu_api();
    UniqueStream stream(api);
    set_caller_stream(gpu, stream.get());
    std::vector<int32_t> source(1000, 7), data(1000, 0);
    for (int i = 0; i < 200; ++i)
      api->cuda.memcpy_async(data.data(), source.data(), 4000, cudaMemcpyDeviceToDevice,
                             stream.get());
    gpu.all_reduce(std::span(data));
    EXPECT_EQ(data, std::vector<int32_t>(1000, 14));
  });
}

TEST(NcclTest, OtherBackendsKnowNoStreams) {
  test_support::run_ranks(1, [](Communicator& host) {
    EXPECT_THROW(set_caller_stream(host, nullptr), InvalidArgument);
    auto work = host.start({});
    EXPECT_THROW(make_stream_wait(*work, nullptr), InvalidArgument);
    work->wait();
  });
}

TEST(NcclTest, SplitMakesGroupsInTheOrderOfTheirKeys) {
  run_gpus(4, [](Communicator& gpu, Communicator& host) {
    const int color = host.rank() == 3 ? -1 : host.rank() % 2;
    auto part = gpu.split(color, -host.rank());
    ASSERT_EQ(part == nullptr, color < 0);
    if (part) {
      EXPECT_EQ(part->size(), color == 0 ? 2 : 1);
      EXPECT_EQ(part->rank(), host.rank() == 0 ? 1 : 0);
      std::vector<int32_t> all(part->size());
      const int32_t mine[] = {host.rank()};
      part->all_gather(std::span<const int32_t>(mine), std::span(all));
      EXPECT_EQ(all, color == 0 ? (std::vector<int32_t>{2, 0}) : (std::vector<int32_t>{1}));
    }
    std::vector<int32_t> data = {1};
    gpu.all_reduce(std::span(data));
    EXPECT_EQ(data[0], 4);
  });
}

TEST(NcclTest, SharedMemoryIsRegisteredZeroedAndOutlivesTheGroup) {
  run_gpus(2, [](Communicator&, Communicator& host) {
    std::unique_ptr<SharedBuffer> buffer;
    {
      auto gpu = make_gpu(host);
      buffer = gpu->allocate_shared(4000);
      EXPECT_FALSE(buffer->is_mapped_by_peers());
      EXPECT_EQ(gpu->allocate_shared(0)->size_bytes(), 0u);
      for (float value : buffer->as<float>()) ASSERT_EQ(value, 0);
      gpu->all_reduce(buffer->as<float>());
      EXPECT_THROW(gpu->allocate_shared(100 + host.rank()), InvalidArgument);
    }
    buffer->as<float>()[999] = 1;
  });
}

TEST(NcclTest, AnOrderlyEndFinalizesEveryGroup) {
  const int num_finalized = fake_gpu_state().num_finalized;
  const int num_aborted = fake_gpu_state().num_aborted;
  run_gpus(3, [](Communicator& gpu, Communicator&) { gpu.barrier(); });
  EXPECT_EQ(fake_gpu_state().num_finalized, num_finalized + 3);
  EXPECT_EQ(fake_gpu_state().num_aborted, num_aborted);
  EXPECT_EQ(fake_gpu_state().num_comms, 0);
}

class NcclFailureTest : public ::testing::TestWithParam<bool> {};  // has ncclCommRevoke

TEST_P(NcclFailureTest, ARankThatDoesNotComeIsATimeoutThatTellsWhatAllDo) {
  const auto errors = errors_of_gpus(3, 1s, GetParam(), [](Communicator& gpu, Communicator&) {
    std::vector<float> data(10);
    gpu.all_reduce(std::span(data));
    if (gpu.rank() == 1) std::this_thread::sleep_for(2s);
    gpu.barrier();
  });
  int num_timeouts = 0;
  for (const auto& error : errors) {
    num_timeouts += error.starts_with("Timeout: ");
    EXPECT_TRUE(error.starts_with("Timeout: ") || error.starts_with("PeerFailure: ")) << error;
    EXPECT_TRUE(contains(error, "in barrier #2")) << error;
    EXPECT_TRUE(contains(error, "rank 1: all_reduce #1 (sum of 10 float32)")) << error;
  }
  EXPECT_GE(num_timeouts, 1);
  EXPECT_EQ(fake_gpu_state().num_comms, 0);
}

// One rank waits for a broadcast, the other for an all_gather: neither could ever end.
TEST_P(NcclFailureTest, DifferentCallsAreNamed) {
  const auto start = std::chrono::steady_clock::now();
  const auto errors = errors_of_gpus(3, 20s, GetParam(), [](Communicator& gpu, Communicator&) {
    std::vector<float> data(6);
    if (gpu.rank() == 0) std::this_thread::sleep_for(500ms);  // so that no two meet
    if (gpu.rank() == 0) return;
    gpu.all_reduce(std::span(data).first(gpu.rank()));
  });
  EXPECT_EQ(errors[0], "");
  for (int rank : {1, 2})
    EXPECT_TRUE(contains(errors[rank], "made another call: all_reduce #1 (sum of")) << errors[rank];
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
}

TEST_P(NcclFailureTest, AbortEndsWhatOthersWaitFor) {
  const auto start = std::chrono::steady_clock::now();
  const auto errors = errors_of_gpus(3, 20s, GetParam(), [](Communicator& gpu, Communicator&) {
    std::vector<float> data(10);
    if (gpu.rank() == 1) {
      std::this_thread::sleep_for(100ms);
      gpu.abort("out of paper");
    }
    gpu.all_reduce(std::span(data));
  });
  for (const auto& error : errors) {
    EXPECT_TRUE(error.starts_with("PeerFailure: ")) << error;
    EXPECT_TRUE(contains(error, "out of paper")) << error;
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
  EXPECT_EQ(fake_gpu_state().num_comms, 0);
}

TEST_P(NcclFailureTest, AnErrorOfNcclEndsTheGroup) {
  const auto errors = errors_of_gpus(2, 20s, GetParam(), [](Communicator& gpu, Communicator& host) {
    std::vector<float> data(10);
    gpu.all_reduce(std::span(data));
    host.barrier();
    if (gpu.rank() == 0) {
      fake_gpu_state().next_async_error = ncclRemoteError;
      EXPECT_THROW(gpu.all_reduce(std::span(data)), Unavailable);
    }
    host.barrier();
    gpu.all_reduce(std::span(data));  // may still meet what rank 0 had launched
    gpu.all_reduce(std::span(data));
  });
  for (const auto& error : errors) {
    EXPECT_TRUE(error.starts_with("PeerFailure: ")) << error;
    EXPECT_TRUE(contains(error, "an error of the model")) << error;
  }
  EXPECT_EQ(fake_gpu_state().num_comms, 0);
}

TEST_P(NcclFailureTest, DestroyedWithWorkUnderWayNothingHangs) {
  std::shared_ptr<Work> kept;
  const auto start = std::chrono::steady_clock::now();
  test_support::errors_of_ranks(
      2,
      [&](Communicator& host) {
        auto gpu = make_gpu(host, GetParam());
        auto data = std::make_shared<std::vector<float>>(10);
        if (host.rank() == 0) kept = gpu->all_reduce_async(data->data(), 10, DType::kFloat32);
        gpu.reset();
      },
      options_for(20s));
  EXPECT_TRUE(kept->is_completed());
  EXPECT_THROW(kept->wait(), PeerFailure);
  kept.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
  EXPECT_EQ(fake_gpu_state().num_comms, 0);
}

TEST_P(NcclFailureTest, SurvivorsGoOnWithoutTheRankThatLeft) {
  const auto errors = errors_of_gpus(3, 2s, GetParam(), [](Communicator& gpu, Communicator&) {
    gpu.barrier();
    if (gpu.rank() == 1) return gpu.abort("leaving");
    EXPECT_THROW(gpu.barrier(), Unavailable);
    const auto left = gpu.shrink();
    EXPECT_EQ(left.lost, std::vector<int>{1});
    EXPECT_EQ(left.interrupted, Survivors::Interrupted::kNone);
    EXPECT_EQ(left.communicator->size(), 2);
    EXPECT_EQ(left.communicator->rank(), gpu.rank() / 2);
    std::vector<float> data(10, 1);
    left.communicator->all_reduce(std::span(data));
    EXPECT_EQ(data, std::vector<float>(10, 2));
  });
  for (const auto& error : errors) EXPECT_EQ(error, "");
  EXPECT_EQ(fake_gpu_state().num_comms, 0);
}

INSTANTIATE_TEST_SUITE_P(Libraries, NcclFailureTest, ::testing::Bool(), [](const auto& info) {
  return std::string(info.param ? "with_revoke" : "without_revoke");
});

}  // namespace
}  // namespace deepseek_train::collectives
