// Reduce_scatter over hosts: each host sums what it has for every other one before it sends it, so
// that (h-1)/h of the bytes of one rank's input leave a host, and not those of all its ranks.
#include <algorithm>
#include <cstring>

#include "collectives/algorithms/tree_reduce.h"
#include "collectives/transport/hierarchical/hierarchical_transport.h"
#include "collectives/transport/hierarchical/widen.h"

namespace deepseek_train::collectives {
namespace {

// Of the input that is done at a time.
constexpr size_t kPieceBytes = 64 << 20;

}  // namespace

void HierarchicalTransport::reduce_scatter(const CollectiveCall& call) {
  const DType type = wide_type_of(call.dtype, call.op).value_or(call.dtype);
  const size_t per_element = size_bytes(type) * size();
  const size_t piece = std::max<size_t>(1, kPieceBytes / per_element);
  for (size_t begin = 0; begin < call.count; begin += piece)
    reduce_scatter_piece(call, type, begin, std::min(piece, call.count - begin));
}

// Elements [begin, begin + count) of every rank's part, summed as `type`. The host's ranks reduce
// to each place on a host what all ranks with that place want, host by host; then those reduce to
// each other.
void HierarchicalTransport::reduce_scatter_piece(const CollectiveCall& call, DType type,
                                                 size_t begin, size_t count) {
  const size_t stored = size_bytes(call.dtype), bytes = count * size_bytes(type);
  const size_t num_hosts = layout_.num_hosts();
  if (scratch_.size() < (size() + num_hosts + 1) * bytes)
    scratch_.resize((size() + num_hosts + 1) * bytes);
  std::byte* const columns = scratch_.data();
  std::byte* const column = columns + size() * bytes;
  std::byte* const sum = column + num_hosts * bytes;
  const auto* in = static_cast<const std::byte*>(call.in);
  for (int r = 0; r < size(); ++r) {
    std::byte* to = columns + (layout_.index_of(r) * num_hosts + layout_.host_of(r)) * bytes;
    const std::byte* from = in + (r * call.count + begin) * stored;
    if (type == call.dtype)
      std::memcpy(to, from, bytes);
    else
      widen(call.dtype, from, to, count);
  }
  CollectiveCall inside = call;
  inside.op = call.op == ReduceOp::kAvg ? ReduceOp::kSum : call.op;
  inside.dtype = type;
  inside.in = columns;
  inside.out = column;
  inside.count = count * num_hosts;
  local_->run(inside);
  CollectiveCall between = inside;
  between.in = column;
  between.out = sum;
  between.count = count;
  across_->run(between);
  if (call.op == ReduceOp::kAvg) divide(type, sum, count, size());
  std::byte* const out = static_cast<std::byte*>(call.out) + begin * stored;
  if (type == call.dtype)
    std::memcpy(out, sum, bytes);
  else
    narrow(call.dtype, sum, out, count);
}

}  // namespace deepseek_train::collectives
