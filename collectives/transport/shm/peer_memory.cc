#include "collectives/transport/shm/peer_memory.h"

#include <sys/uio.h>

#include <cerrno>
#include <cstring>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

// Bytes read, or -1.
ssize_t read_some(int64_t pid, uint64_t address, std::span<std::byte> to) {
  const iovec local{to.data(), to.size()};
  const iovec remote{reinterpret_cast<void*>(address), to.size()};
  return ::process_vm_readv(static_cast<pid_t>(pid), &local, 1, &remote, 1, 0);
}

constexpr uint64_t kProbeWord = 0x6465'6570'7365'656b;

bool can_read_all(const ShmGroup& group) {
  for (int r = 0; r < group.size(); ++r) {
    uint64_t address = 0, word = 0;
    std::memcpy(&address, group.layout().slot(r, 0), sizeof(address));
    const auto bytes = std::as_writable_bytes(std::span(&word, 1));
    if (r != group.rank() &&
        (read_some(group.layout().rank(r).process.pid, address, bytes) != sizeof(word) ||
         word != kProbeWord))
      return false;
  }
  return true;
}

}  // namespace

void PeerMemory::probe(ShmGroup& group) {
  const uint64_t word = kProbeWord;
  const auto address = reinterpret_cast<uint64_t>(&word);
  std::memcpy(group.layout().slot(group.rank(), 0), &address, sizeof(address));
  group.wait_for_all(group.advance());
  const bool can_read = can_read_all(group);
  *group.layout().slot(group.rank(), 1) = std::byte{can_read};
  group.wait_for_all(group.advance());
  is_permitted_ = true;
  for (int r = 0; r < group.size(); ++r)
    is_permitted_ &= *group.layout().slot(r, 1) == std::byte{true};
}

void PeerMemory::read(const ShmGroup& group, int rank, uint64_t address, std::span<std::byte> to) {
  while (!to.empty()) {
    const ssize_t length = read_some(group.layout().rank(rank).process.pid, address, to);
    if (length <= 0 && errno == EINTR) continue;
    if (length <= 0 && errno == ESRCH) group.throw_lost(rank, "has died");
    DST_CHECK_AS(Unavailable, length > 0, "cannot read ", to.size(), " bytes of ",
                 group.name_rank(rank), ": ", std::strerror(errno));
    address += length;
    to = to.subspan(length);
  }
}

}  // namespace deepseek_train::collectives
