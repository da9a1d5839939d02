#include "collectives/backends/native/native_communicator.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "collectives/transport/shm/shm_transport.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {

NativeCommunicator::NativeCommunicator(std::unique_ptr<Transport> transport, std::string group,
                                       std::chrono::milliseconds timeout)
    : transport_(std::move(transport)), group_(std::move(group)), timeout_(timeout) {}

NativeCommunicator::~NativeCommunicator() {
  if (!queue_.is_idle()) transport_->abort("the communicator was destroyed with calls under way");
}

void NativeCommunicator::run(const CollectiveCall& call) {
  queue_.run([&] { transport_->run(call); });
}

std::shared_ptr<Work> NativeCommunicator::start(const CollectiveCall& call) {
  return queue_.submit([this, call] { transport_->run(call); });
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
  return std::make_unique<NativeCommunicator>(std::move(transport), group, timeout_);
}

void NativeCommunicator::abort(const std::string& reason) noexcept { transport_->abort(reason); }

}  // namespace deepseek_train::collectives
