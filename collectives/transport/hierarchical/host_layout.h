// Which ranks share a host.
#pragma once

#include <cstdint>
#include <vector>

namespace deepseek_train::collectives {

// What a rank says of its place.
struct RankPlace {
  uint64_t memory_key = 0;  // see HostIdentity
  int32_t local_rank = 0;   // as its launcher says
  int32_t local_size = 1;
};

// Ranks by host, hosts in the order of their first ranks. A value; the same on all ranks.
class HostLayout {
 public:
  // Ranks share a host if they share its memory; where that contradicts the launcher (containers
  // and network namespaces of one machine, say), if the launcher numbers them as neighbours. Throws
  // InvalidArgument if neither makes sense.
  static HostLayout from_places(const std::vector<RankPlace>& places);
  // The layout of a part of the ranks, in this new order.
  HostLayout select(const std::vector<int>& members) const;

  int num_hosts() const { return static_cast<int>(ranks_.size()); }
  int num_ranks() const { return static_cast<int>(host_of_.size()); }
  int host_of(int rank) const { return host_of_[rank]; }
  // A rank's place among those of its host.
  int index_of(int rank) const { return index_of_[rank]; }
  const std::vector<int>& ranks_of(int host) const { return ranks_[host]; }
  // All hosts have the same number of ranks.
  bool is_even() const;
  // Hosts hold equal, aligned blocks of a power of two of ranks: sub-trees of the reproducible
  // order.
  bool is_tree() const;

 private:
  explicit HostLayout(const std::vector<uint64_t>& keys);

  std::vector<int> host_of_;
  std::vector<int> index_of_;
  std::vector<std::vector<int>> ranks_;
};

}  // namespace deepseek_train::collectives
