#include "deepseek_train/collectives/communicator.h"

#include <numeric>

#include "collectives/describe.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

bool is_reduction(Collective kind) {
  return kind == Collective::kAllReduce || kind == Collective::kReduceScatter;
}

// The total of uneven parts; throws InvalidArgument if they are not one a rank.
size_t total_of(std::string_view name, const std::vector<size_t>& counts, int size) {
  DST_CHECK(counts.size() == static_cast<size_t>(size), name, " got ", counts.size(),
            " sizes of parts; wanted one for each of ", size, " ranks");
  return std::accumulate(counts.begin(), counts.end(), size_t{0});
}

struct ElementCounts {
  size_t in = 0;
  size_t out = 0;
};

// What must lie behind `in` and `out` on a rank.
ElementCounts element_counts(const CollectiveCall& call, std::string_view name, int size,
                             bool is_root) {
  const auto parts = [&](const std::vector<size_t>& counts) {
    return counts.empty() ? call.count * size : total_of(name, counts, size);
  };
  switch (call.kind) {
    case Collective::kBarrier: return {};
    case Collective::kAllReduce:
    case Collective::kBroadcast: return {call.count, call.count};
    case Collective::kReduceScatter: return {parts(call.in_counts), call.count};
    case Collective::kAllGather: return {call.count, parts(call.out_counts)};
    case Collective::kAllToAll: return {parts(call.in_counts), parts(call.out_counts)};
    case Collective::kGather: return {call.count, is_root ? parts(call.out_counts) : 0};
    case Collective::kScatter: return {is_root ? parts(call.in_counts) : 0, call.count};
  }
  return {};
}

// The part of a rank that knows all sizes must be what it says.
void check_own_part(const CollectiveCall& call, std::string_view name, int rank) {
  const auto& counts = call.kind == Collective::kReduceScatter ? call.in_counts : call.out_counts;
  if (call.kind == Collective::kAllToAll || counts.empty()) return;
  DST_CHECK(counts[rank] == call.count, name, ": rank ", rank, " has ", call.count,
            " elements, but part ", rank, " is given as ", counts[rank], "; they must be equal");
}

}  // namespace

void Communicator::run(const CollectiveCall& call) {
  check(call);
  execute(call);
}

std::shared_ptr<Work> Communicator::start(CollectiveCall call) {
  check(call);
  std::vector<CollectiveCall> calls;
  calls.push_back(std::move(call));
  return submit(std::move(calls));
}

std::shared_ptr<Work> Communicator::start_group(std::vector<CollectiveCall> calls) {
  for (const auto& call : calls) check(call);
  return submit(std::move(calls));
}

void Communicator::check(const CollectiveCall& call) const {
  const auto name = name_of(call.kind);
  DST_CHECK(call.root >= 0 && call.root < size(), name, ": root ", call.root,
            " is not a rank; there are ranks 0 to ", size() - 1);
  DST_CHECK(call.count <= (SIZE_MAX >> 1) / size_bytes(call.dtype) / size(), name, " of ",
            call.count, " ", name_of(call.dtype), " on ", size(),
            " ranks is more bytes than an address can count");
  const auto counts = element_counts(call, name, size(), rank() == call.root);
  check_own_part(call, name, rank());
  DST_CHECK(counts.in == 0 || call.in, name, " of ", counts.in, " elements got a null pointer");
  DST_CHECK(counts.out == 0 || call.out, name, " of ", counts.out, " elements got a null pointer");
  DST_CHECK(!is_reduction(call.kind) || is_reducible(call.dtype, call.op), name, " cannot take ",
            name_of(call.op), " of ", name_of(call.dtype),
            "; floats take sum, avg, min, max, prod, integers also and, or; bool min, max, and, or");
}

void Communicator::check_sizes(const char* what, size_t all, size_t per_rank) const {
  DST_CHECK(per_rank <= SIZE_MAX / size() && all == per_rank * size(), what, ": one span holds ",
            all, " elements, the other ", per_rank, "; with ", size(), " ranks the first must be ",
            size(), " times the second");
}

}  // namespace deepseek_train::collectives
