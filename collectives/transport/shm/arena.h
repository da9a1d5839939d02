// Buffers that every rank of a host has mapped.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "collectives/transport/shm/mapping.h"
#include "deepseek_train/collectives/shared_buffer.h"

namespace deepseek_train::collectives {

// One collective allocation as one rank sees it: its own part and all others'.
struct Arena {
  uint32_t id = 0;  // the same on all ranks, from 1
  int rank = 0;
  std::vector<Mapping> parts;  // by rank

  const Mapping& own() const { return parts[rank]; }
};

// An arena among the ranks of a group, which may be fewer than those that made it.
struct ArenaView {
  std::weak_ptr<const Arena> arena;
  std::vector<int> places;  // by rank of the group: of its part in the arena
};

// Where in which arena a rank's data lies; no arena for private memory.
struct ArenaLocation {
  std::shared_ptr<const Arena> arena;
  const std::vector<int>* places = nullptr;  // the registry's, until the next add()
  uint64_t offset = 0;

  const Mapping& part(int rank) const { return arena->parts[(*places)[rank]]; }
};

// Knows the arenas whose buffers still live.
class ArenaRegistry {
 public:
  void add(const std::shared_ptr<const Arena>& arena);
  ArenaLocation find(const void* data, size_t bytes) const;
  // The same arenas for a group of some of the ranks, in that order.
  ArenaRegistry of_members(std::span<const int> members) const;

 private:
  std::vector<ArenaView> views_;
};

// What a rank tells the others about its part, for them to map it.
struct ArenaOffer {
  int64_t pid = 0;
  int32_t fd = -1;
  int32_t error = 0;  // errno of a rank that could not make its part
  uint64_t bytes = 0;
};

// A part not yet mapped by the others. The descriptor must stay open until they have.
class ArenaPart {
 public:
  explicit ArenaPart(size_t bytes);
  const ArenaOffer& offer() const { return offer_; }
  // Maps all parts. Throws Unavailable if a rank failed or forbids access, InvalidArgument if sizes
  // differ.
  std::shared_ptr<Arena> map(uint32_t id, int rank, std::span<const ArenaOffer> offers) const;

  ~ArenaPart();
  ArenaPart(const ArenaPart&) = delete;
  ArenaPart& operator=(const ArenaPart&) = delete;

 private:
  ArenaOffer offer_;
};

// `bytes` of the arena's own part as a buffer.
std::unique_ptr<SharedBuffer> make_shared_buffer(std::shared_ptr<const Arena> arena, size_t bytes);

}  // namespace deepseek_train::collectives
