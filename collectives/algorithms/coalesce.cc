#include "collectives/algorithms/coalesce.h"

#include <cstring>

namespace deepseek_train::collectives {
namespace {

// Above this the copies cost more than a call's latency.
constexpr size_t kMaxBytes = 256 << 10;

size_t bytes_of(const CollectiveCall& call) { return call.count * size_bytes(call.dtype); }

bool can_join(const CollectiveCall& first, const CollectiveCall& call) {
  return call.kind == Collective::kAllReduce && call.dtype == first.dtype && call.op == first.op;
}

// How many calls from the front of `calls` go as one.
size_t num_together(std::span<const CollectiveCall> calls) {
  size_t bytes = 0;
  size_t n = 0;
  for (; n < calls.size() && can_join(calls[0], calls[n]); ++n) {
    bytes += bytes_of(calls[n]);
    if (bytes > kMaxBytes) break;
  }
  return n;
}

void run_together(std::span<const CollectiveCall> calls, std::vector<std::byte>& scratch,
                  const std::function<void(const CollectiveCall&)>& perform) {
  CollectiveCall whole = calls[0];
  whole.count = 0;
  for (const auto& call : calls) whole.count += call.count;
  scratch.resize(std::max(scratch.size(), bytes_of(whole)));
  whole.in = whole.out = scratch.data();
  std::byte* place = scratch.data();
  for (const auto& call : calls) {
    if (call.count > 0) std::memcpy(place, call.in, bytes_of(call));
    place += bytes_of(call);
  }
  perform(whole);
  place = scratch.data();
  for (const auto& call : calls) {
    if (call.count > 0) std::memcpy(call.out, place, bytes_of(call));
    place += bytes_of(call);
  }
}

}  // namespace

void run_coalesced(std::span<const CollectiveCall> calls, std::vector<std::byte>& scratch,
                   const std::function<void(const CollectiveCall&)>& perform) {
  while (!calls.empty()) {
    const size_t together = num_together(calls);
    if (together > 1)
      run_together(calls.first(together), scratch, perform);
    else
      perform(calls[0]);
    calls = calls.subspan(std::max<size_t>(together, 1));
  }
}

}  // namespace deepseek_train::collectives
