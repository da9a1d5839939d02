// Run by ctest under a real mpirun: joins with what the environment says and checks a few calls of
// every kind. Arguments: the backend and the number of ranks.
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "deepseek_train/collectives/communicator.h"
#include "deepseek_train/core/error.h"
#include "tests/collectives/values.h"

namespace {

using namespace deepseek_train;
using namespace deepseek_train::collectives;
using collectives::testing::exact_values;
using collectives::testing::reduced;
using collectives::testing::same_bits;

template <typename T>
void check_all_reduce(Communicator& communicator, size_t count, ReduceOp op) {
  std::vector<std::vector<T>> inputs;
  for (int r = 0; r < communicator.size(); ++r) inputs.push_back(exact_values<T>(count, r));
  auto data = inputs[communicator.rank()];
  communicator.all_reduce(std::span(data), op);
  DST_ASSERT(same_bits(data, reduced(inputs, op)), name_of(op), " of ", count, " ",
             name_of(dtype_of<T>()));
}

// Rank s gives rank r the numbers 100 * s + r, s + r + 1 of them.
void check_exchange(Communicator& communicator) {
  const int rank = communicator.rank(), size = communicator.size();
  CollectiveCall call{.kind = Collective::kAllToAll, .dtype = DType::kInt32};
  std::vector<int32_t> in, expected;
  for (int peer = 0; peer < size; ++peer) {
    call.in_counts.push_back(rank + peer + 1);
    call.out_counts.push_back(rank + peer + 1);
    in.insert(in.end(), rank + peer + 1, 100 * rank + peer);
    expected.insert(expected.end(), rank + peer + 1, 100 * peer + rank);
  }
  std::vector<int32_t> out(expected.size());
  call.in = in.data();
  call.out = out.data();
  communicator.run(call);
  DST_ASSERT(out == expected, "all_to_all of uneven parts");

  const std::vector<int32_t> mine = {rank, -rank};
  std::vector<int32_t> all(rank == size - 1 ? 2 * size : 0), back(2);
  communicator.gather(mine, std::span(all), size - 1);
  communicator.scatter(all, std::span(back), size - 1);
  DST_ASSERT(back == mine, "gather and scatter");

  std::vector<size_t> counts;
  for (int r = 0; r < size; ++r) counts.push_back(r % 2 ? 3 : 0);
  std::vector<int32_t> ones(3 * (size / 2), 1), part(counts[rank]);
  communicator.run({.kind = Collective::kReduceScatter,
                    .in = ones.data(),
                    .out = part.data(),
                    .count = part.size(),
                    .dtype = DType::kInt32,
                    .in_counts = counts});
  DST_ASSERT(part == std::vector<int32_t>(counts[rank], size), "reduce_scatter of uneven parts");
}

void check_rest(Communicator& communicator) {
  const int rank = communicator.rank(), size = communicator.size();
  std::vector<int64_t> all(size);
  const std::vector<int64_t> mine = {10 * rank};
  communicator.all_gather(mine, std::span(all));
  for (int r = 0; r < size; ++r) DST_ASSERT(all[r] == 10 * r, "all_gather");
  std::vector<int64_t> part(1);
  communicator.reduce_scatter(all, std::span(part), ReduceOp::kMax);
  DST_ASSERT(part[0] == 10 * rank, "reduce_scatter");
  communicator.broadcast(std::span(part), size - 1);
  DST_ASSERT(part[0] == 10 * (size - 1), "broadcast");
  std::vector<float> nan = {rank == size - 1 ? std::numeric_limits<float>::quiet_NaN() : 1.0f};
  communicator.all_reduce(std::span(nan), ReduceOp::kMin);
  DST_ASSERT(nan[0] != nan[0], "min must keep NaN");
  if (rank == 0 && size > 1) communicator.send(all.data(), size * sizeof(int64_t), size - 1);
  if (rank == size - 1 && size > 1) communicator.recv(all.data(), size * sizeof(int64_t), 0);
  const auto half = communicator.split(rank % 2, rank);
  std::vector<int32_t> ones = {1};
  auto work = half->all_reduce_async(ones.data(), 1, DType::kInt32);
  work->wait();
  DST_ASSERT(ones[0] == half->size() && half->size() == (size + 1 - rank % 2) / 2, "split");
  const auto shared = communicator.allocate_shared(4096);
  shared->as<float>()[0] = 1;
  communicator.all_reduce(shared->as<float>());
  DST_ASSERT(shared->as<float>()[0] == static_cast<float>(size), "arena");
  communicator.barrier();
}

}  // namespace

int main(int, char** arguments) try {
  CommunicatorOptions options;
  options.backend = arguments[1];
  options.launch = launch_info_from_environment();
  options.timeout = std::chrono::seconds(30);
  const auto communicator = make_communicator(options);
  DST_ASSERT(communicator->size() == std::stoi(arguments[2]), "found ", communicator->size(),
             " ranks");
  DST_ASSERT(communicator->transport() == (options.backend == "mpi" ? "mpi" : "shm"),
             communicator->transport());
  for (size_t count : {size_t{1}, size_t{1000}, size_t{300'001}}) {
    for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax, ReduceOp::kProd}) {
      check_all_reduce<float>(*communicator, count, op);
      check_all_reduce<double>(*communicator, count, op);
      check_all_reduce<BFloat16>(*communicator, count, op);
      check_all_reduce<Float16>(*communicator, count, op);
      check_all_reduce<int32_t>(*communicator, count, op);
      check_all_reduce<int64_t>(*communicator, count, op);
      check_all_reduce<int8_t>(*communicator, count, op);
      check_all_reduce<uint8_t>(*communicator, count, op);
    }
  }
  check_all_reduce<float>(*communicator, 100, ReduceOp::kAvg);
  check_all_reduce<int32_t>(*communicator, 100, ReduceOp::kAvg);
  check_all_reduce<int32_t>(*communicator, 100, ReduceOp::kAnd);
  check_all_reduce<uint8_t>(*communicator, 100, ReduceOp::kOr);
  check_rest(*communicator);
  check_exchange(*communicator);
  if (communicator->rank() == 0)
    std::printf("%d ranks over %s: all right\n", communicator->size(),
                communicator->transport().c_str());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
