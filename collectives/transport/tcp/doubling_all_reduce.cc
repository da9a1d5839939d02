// All-reduce between partners whose rank numbers differ in one bit, for powers of two: few messages
// where latency counts.
//
// Doubling: in round k every rank exchanges all it has summed with rank ^ 2^k. Halving: in round k
// it exchanges half of what it still sums with rank ^ 2^k and keeps the other half; then the rounds
// run backwards and put the parts together. Neighbours come first and the lower rank's values stand
// left, so both sum in the order of tree_reduce(); they are for types that are summed in their own
// precision, since every round rounds.
#include "collectives/algorithms/partition.h"
#include "collectives/algorithms/tree_reduce.h"
#include "collectives/transport/tcp/tcp_transport.h"

namespace deepseek_train::collectives {
namespace {

// Of one rank and its partner, values of the same elements: data = lower rank's op upper rank's.
void reduce_pair(const CollectiveCall& call, const std::byte* received, std::byte* data,
                 size_t count, bool is_lower) {
  const std::byte* sources[] = {is_lower ? data : received, is_lower ? received : data};
  std::byte* destinations[] = {data};
  const ReduceOp op = call.op == ReduceOp::kAvg ? ReduceOp::kSum : call.op;
  tree_reduce(call.dtype, op, sources, destinations, count);
}

// The two parts of a range that partners share out.
struct Halves {
  Slice kept, given;
};

Halves halve(const Slice& range, size_t element_bytes, bool is_lower) {
  const Slice first = slice_of(range.size(), element_bytes, 0, 2);
  const Slice lower{range.begin, range.begin + first.end};
  const Slice upper{lower.end, range.end};
  return is_lower ? Halves{lower, upper} : Halves{upper, lower};
}

}  // namespace

void TcpTransport::meet(int partner, std::span<const std::byte> out, std::span<std::byte> in) {
  Transfers transfers(size());
  greet(transfers, partner, partner);
  transfers.send(partner, out);
  transfers.recv(partner, in);
  run(transfers);
}

void TcpTransport::all_reduce_doubling(const CollectiveCall& call) {
  const size_t bytes = call.count * size_bytes(call.dtype);
  auto* data = static_cast<std::byte*>(call.out);
  std::byte* received = scratch(bytes);
  for (int distance = 1; distance < size(); distance *= 2) {
    const int partner = rank() ^ distance;
    meet(partner, {data, bytes}, {received, bytes});
    reduce_pair(call, received, data, call.count, rank() < partner);
  }
  if (call.op == ReduceOp::kAvg) divide(call.dtype, data, call.count, size());
}

void TcpTransport::all_reduce_halving(const CollectiveCall& call) {
  const size_t element_bytes = size_bytes(call.dtype);
  auto* data = static_cast<std::byte*>(call.out);
  std::byte* received = scratch(call.count * element_bytes / 2 + 64);
  const auto bytes_of = [&](const Slice& slice) -> std::span<std::byte> {
    return {data + slice.begin * element_bytes, slice.size() * element_bytes};
  };
  std::vector<Halves> rounds;
  Slice range{0, call.count};
  for (int distance = 1; distance < size(); distance *= 2) {
    const int partner = rank() ^ distance;
    rounds.push_back(halve(range, element_bytes, rank() < partner));
    range = rounds.back().kept;
    const auto kept = bytes_of(range);
    meet(partner, bytes_of(rounds.back().given), {received, kept.size()});
    reduce_pair(call, received, kept.data(), range.size(), rank() < partner);
  }
  if (call.op == ReduceOp::kAvg) divide(call.dtype, bytes_of(range).data(), range.size(), size());
  for (int distance = size() / 2; distance > 0; distance /= 2) {
    const int partner = rank() ^ distance;
    Transfers transfers(size());
    transfers.send(partner, bytes_of(rounds.back().kept));
    transfers.recv(partner, bytes_of(rounds.back().given));
    run(transfers);
    rounds.pop_back();
  }
}

}  // namespace deepseek_train::collectives
