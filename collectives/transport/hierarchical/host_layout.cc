#include "collectives/transport/hierarchical/host_layout.h"

#include <algorithm>
#include <bit>
#include <map>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {

HostLayout::HostLayout(const std::vector<uint64_t>& keys) {
  std::map<uint64_t, int> host_of_key;
  for (size_t rank = 0; rank < keys.size(); ++rank) {
    const auto [place, is_new] = host_of_key.emplace(keys[rank], num_hosts());
    if (is_new) ranks_.emplace_back();
    auto& ranks = ranks_[place->second];
    host_of_.push_back(place->second);
    index_of_.push_back(static_cast<int>(ranks.size()));
    ranks.push_back(static_cast<int>(rank));
  }
}

HostLayout HostLayout::from_places(const std::vector<RankPlace>& places) {
  std::vector<uint64_t> by_memory, by_launcher;
  for (size_t rank = 0; rank < places.size(); ++rank) {
    by_memory.push_back(places[rank].memory_key);
    by_launcher.push_back(rank - places[rank].local_rank);
  }
  for (const auto& keys : {by_memory, by_launcher}) {
    HostLayout layout(keys);
    bool agrees = true;
    for (size_t rank = 0; rank < places.size(); ++rank)
      agrees &= std::ssize(layout.ranks_of(layout.host_of_[rank])) == places[rank].local_size;
    if (agrees) return layout;
  }
  throw InvalidArgument(
      "the launcher's local ranks and sizes agree neither with who shares memory nor with blocks "
      "of "
      "neighbouring ranks; choose transport tcp, or let the launcher place ranks host by host");
}

HostLayout HostLayout::select(const std::vector<int>& members) const {
  std::vector<uint64_t> keys;
  for (const int rank : members) keys.push_back(static_cast<uint64_t>(host_of_[rank]));
  return HostLayout(keys);
}

bool HostLayout::is_even() const {
  return std::all_of(ranks_.begin(), ranks_.end(),
                     [this](const auto& ranks) { return ranks.size() == ranks_[0].size(); });
}

bool HostLayout::is_tree() const {
  if (!is_even() || !std::has_single_bit(ranks_[0].size())) return false;
  for (int host = 0; host < num_hosts(); ++host) {
    const auto& ranks = ranks_[host];
    if (ranks.front() != host * std::ssize(ranks) ||
        ranks.back() - ranks.front() + 1 != std::ssize(ranks))
      return false;
  }
  return true;
}

}  // namespace deepseek_train::collectives
