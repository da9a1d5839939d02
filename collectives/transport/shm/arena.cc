// A part is an anonymous file (memfd), not a named segment: it needs no room in /dev/shm, which
// containers keep small, and vanishes with its last user. Peers of the same user open it through
// /proc/PID/fd.
#include "collectives/transport/shm/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <numeric>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/unique_fd.h"

namespace deepseek_train::collectives {
namespace {

class ArenaBuffer : public SharedBuffer {
 public:
  ArenaBuffer(std::shared_ptr<const Arena> arena, size_t bytes)
      : arena_(std::move(arena)), bytes_(bytes) {}
  void* data() const override { return arena_->own().data(); }
  size_t size_bytes() const override { return bytes_; }
  bool is_mapped_by_peers() const override { return true; }

 private:
  std::shared_ptr<const Arena> arena_;
  size_t bytes_;
};

Mapping map_offer(const ArenaOffer& offer, int rank, bool is_own) {
  if (is_own) return Mapping(offer.fd, offer.bytes, "this rank's arena");
  const auto path = concat("/proc/", offer.pid, "/fd/", offer.fd);
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  DST_CHECK_AS(Unavailable, file, "cannot open rank ", rank, "'s arena at ", path, ": ",
               std::strerror(errno), "; the ranks of a host must share user and pid namespace");
  return Mapping(file.get(), offer.bytes, "another rank's arena");
}

}  // namespace

void ArenaRegistry::add(const std::shared_ptr<const Arena>& arena) {
  std::erase_if(views_, [](const auto& view) { return view.arena.expired(); });
  std::vector<int> places(arena->parts.size());
  std::iota(places.begin(), places.end(), 0);
  views_.push_back({arena, std::move(places)});
}

ArenaLocation ArenaRegistry::find(const void* data, size_t bytes) const {
  for (const auto& view : views_) {
    auto arena = view.arena.lock();
    if (!arena || !arena->own().contains(data)) continue;
    const uint64_t offset = static_cast<const std::byte*>(data) - arena->own().data();
    if (bytes <= arena->own().size() - offset) return {std::move(arena), &view.places, offset};
  }
  return {};
}

ArenaRegistry ArenaRegistry::of_members(std::span<const int> members) const {
  ArenaRegistry registry;
  for (const auto& view : views_) {
    std::vector<int> places;
    for (const int member : members) places.push_back(view.places[member]);
    registry.views_.push_back({view.arena, std::move(places)});
  }
  return registry;
}

// Errors are kept for the exchange of offers, so that all ranks fail together.
ArenaPart::ArenaPart(size_t bytes) : offer_{::getpid(), -1, 0, bytes} {
  UniqueFd file(::memfd_create("deepseek_train arena", MFD_CLOEXEC));
  if (!file || ::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) {
    offer_.error = errno;
    return;
  }
  offer_.fd = file.release();
}

ArenaPart::~ArenaPart() { UniqueFd(offer_.fd).reset(); }

std::shared_ptr<Arena> ArenaPart::map(uint32_t id, int rank,
                                      std::span<const ArenaOffer> offers) const {
  auto arena = std::make_shared<Arena>();
  arena->id = id;
  arena->rank = rank;
  for (size_t r = 0; r < offers.size(); ++r) {
    DST_CHECK_AS(Unavailable, offers[r].error == 0, "rank ", r, " cannot make an arena of ",
                 offers[r].bytes, " bytes: ", std::strerror(offers[r].error));
    DST_CHECK(offers[r].bytes == offer_.bytes, "allocate_shared: rank ", r, " asks for ",
              offers[r].bytes, " bytes, rank ", rank, " for ", offer_.bytes,
              "; all must ask for the same");
  }
  for (size_t r = 0; r < offers.size(); ++r)
    arena->parts.push_back(map_offer(offers[r], static_cast<int>(r), static_cast<int>(r) == rank));
  return arena;
}

std::unique_ptr<SharedBuffer> make_shared_buffer(std::shared_ptr<const Arena> arena, size_t bytes) {
  return std::make_unique<ArenaBuffer>(std::move(arena), bytes);
}

}  // namespace deepseek_train::collectives
