#include "collectives/algorithms/exchange_parts.h"

#include "collectives/algorithms/tree_reduce.h"

namespace deepseek_train::collectives {
namespace {

// Cuts a buffer into one part a rank; without counts all have `count` elements.
template <typename Byte>
std::vector<std::span<Byte>> cut(Byte* data, const std::vector<size_t>& counts, size_t count,
                                 size_t element_bytes, int size) {
  std::vector<std::span<Byte>> parts(size);
  for (int r = 0; r < size; ++r) {
    const size_t bytes = (counts.empty() ? count : counts[r]) * element_bytes;
    parts[r] = {data, bytes};
    data += bytes;
  }
  return parts;
}

}  // namespace

ExchangeParts parts_of(const CollectiveCall& call, int rank, int size) {
  const size_t element_bytes = size_bytes(call.dtype);
  const auto* in = static_cast<const std::byte*>(call.in);
  auto* out = static_cast<std::byte*>(call.out);
  const std::span<const std::byte> own_in(in, call.count * element_bytes);
  const std::span<std::byte> own_out(out, call.count * element_bytes);
  ExchangeParts parts;
  parts.out.resize(size);
  parts.in.resize(size);
  const bool gives_parts = call.kind == Collective::kAllToAll ||
                           call.kind == Collective::kReduceScatter ||
                           (call.kind == Collective::kScatter && rank == call.root);
  const bool takes_parts = call.kind == Collective::kAllToAll ||
                           call.kind == Collective::kAllGather ||
                           (call.kind == Collective::kGather && rank == call.root);
  if (gives_parts) parts.out = cut(in, call.in_counts, call.count, element_bytes, size);
  if (takes_parts) parts.in = cut(out, call.out_counts, call.count, element_bytes, size);
  if (call.kind == Collective::kGather) parts.out[call.root] = own_in;
  if (call.kind == Collective::kAllGather) parts.out.assign(size, own_in);
  if (call.kind == Collective::kScatter) parts.in[call.root] = own_out;
  return parts;
}

void reduce_scatter_by_exchange(const CollectiveCall& call, int rank, int size,
                                std::vector<std::byte>& scratch,
                                const std::function<void(const ExchangeParts&)>& exchange) {
  const size_t bytes = call.count * size_bytes(call.dtype);
  if (scratch.size() < bytes * size) scratch.resize(bytes * size);
  ExchangeParts parts = parts_of(call, rank, size);
  std::vector<const std::byte*> sources(size);
  for (int r = 0; r < size; ++r) {
    parts.in[r] = {scratch.data() + r * bytes, bytes};
    sources[r] = parts.in[r].data();
  }
  exchange(parts);
  std::byte* destinations[] = {static_cast<std::byte*>(call.out)};
  if (call.count > 0) tree_reduce(call.dtype, call.op, sources, destinations, call.count);
}

}  // namespace deepseek_train::collectives
