#include "collectives/backends/native/native_communicator.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "collectives/algorithms/coalesce.h"
#include "collectives/algorithms/exchange_parts.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {

NativeCommunicator::NativeCommunicator(std::unique_ptr<Transport> transport, std::string group,
                                       const CommunicatorOptions& options)
    : transport_(std::move(transport)),
      group_(std::move(group)),
      options_(options),
      recorder_(options.metrics, options.trace) {}

NativeCommunicator::~NativeCommunicator() {
  if (!queue_.is_idle()) transport_->abort("the communicator was destroyed with calls under way");
}

void NativeCommunicator::execute(const CollectiveCall& call) {
  queue_.run([&] { perform(call); });
}

std::shared_ptr<Work> NativeCommunicator::submit(std::vector<CollectiveCall> calls) {
  return queue_.submit([this, calls = std::move(calls)] {
    // What shrink() finishes must be the caller's buffer and not a packed copy.
    if (options_.recoverable) {
      for (const auto& call : calls) perform(call);
      return;
    }
    run_coalesced(calls, scratch_, [this](const CollectiveCall& call) { perform(call); });
  });
}

void NativeCommunicator::perform(const CollectiveCall& call) {
  recorder_.time(call, [&] { dispatch(call); });
}

void NativeCommunicator::dispatch(const CollectiveCall& call) {
  const bool is_uneven = !call.in_counts.empty() || !call.out_counts.empty();
  switch (call.kind) {
    case Collective::kAllToAll:
    case Collective::kGather:
    case Collective::kScatter: break;
    case Collective::kReduceScatter:
      if (!is_uneven) return transport_->run(call);
      return reduce_scatter_by_exchange(
          call, rank(), size(), scratch_,
          [&](const ExchangeParts& parts) { transport_->exchange(call, parts.out, parts.in); });
    default:
      if (!is_uneven) return transport_->run(call);
  }
  const ExchangeParts parts = parts_of(call, rank(), size());
  transport_->exchange(call, parts.out, parts.in);
}

void NativeCommunicator::check_peer(const char* what, const void* data, size_t bytes,
                                    int peer) const {
  DST_CHECK(peer >= 0 && peer < size() && peer != rank(), what, ": peer ", peer,
            " is not another rank; there are ranks 0 to ", size() - 1, " and this is ", rank());
  DST_CHECK(data || bytes == 0, what, " of ", bytes, " bytes got a null pointer");
}

void NativeCommunicator::send(const void* data, size_t bytes, int to) {
  check_peer("send", data, bytes, to);
  queue_.run([&] { transport_->send({static_cast<const std::byte*>(data), bytes}, to); });
}

void NativeCommunicator::recv(void* data, size_t bytes, int from) {
  check_peer("recv", data, bytes, from);
  queue_.run([&] { transport_->recv({static_cast<std::byte*>(data), bytes}, from); });
}

std::unique_ptr<SharedBuffer> NativeCommunicator::allocate_shared(size_t bytes) {
  DST_CHECK(bytes <= SIZE_MAX >> 2, "allocate_shared: ", bytes,
            " bytes are more than an address can count");
  std::unique_ptr<SharedBuffer> buffer;
  queue_.run([&] { buffer = transport_->allocate_shared(bytes); });
  return buffer;
}

std::unique_ptr<Communicator> NativeCommunicator::split(int color, int key) {
  const int32_t mine[2] = {color, key};
  std::vector<int32_t> all(2 * size());
  all_gather(std::span<const int32_t>(mine), std::span(all));
  const auto group = concat(group_, "/", ++num_splits_, ".", color);
  if (color < 0) return nullptr;

  std::vector<int> members;
  for (int r = 0; r < size(); ++r) {
    if (all[2 * r] == color) members.push_back(r);
  }
  std::stable_sort(members.begin(), members.end(),
                   [&](int a, int b) { return all[2 * a + 1] < all[2 * b + 1]; });
  std::unique_ptr<Transport> transport;
  queue_.run([&] { transport = transport_->make_subgroup(group, members); });
  return std::make_unique<NativeCommunicator>(std::move(transport), group, options_);
}

Survivors NativeCommunicator::shrink() {
  const auto group = concat(group_, "/shrink.", ++num_splits_);
  SurvivingTransport left;
  queue_.run([&] { left = transport_->shrink(group); });
  return {std::make_unique<NativeCommunicator>(std::move(left.transport), group, options_),
          std::move(left.lost), left.interrupted};
}

void NativeCommunicator::abort(const std::string& reason) noexcept { transport_->abort(reason); }

}  // namespace deepseek_train::collectives
