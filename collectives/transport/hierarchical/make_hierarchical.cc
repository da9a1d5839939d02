// Joining a launch over hosts with several ranks.
#include "collectives/transport/hierarchical/hierarchical_transport.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

HostLayout agree_on_layout(TcpTransport& world, const LaunchInfo& launch, uint64_t memory_key) {
  const RankPlace mine{memory_key, launch.local_rank, launch.local_size};
  std::vector<RankPlace> places(world.size());
  world.run(
      {.kind = Collective::kAllGather, .in = &mine, .out = places.data(), .count = sizeof(mine)});
  return HostLayout::from_places(places);
}

}  // namespace

std::unique_ptr<Transport> make_hierarchical_transport(const CommunicatorOptions& options,
                                                       uint64_t memory_key) {
  const bool is_asked_for = options.transport == "hierarchical";
  auto world = make_tcp_transport(options);
  HostLayout layout = agree_on_layout(*world, options.launch, memory_key);
  DST_CHECK(!is_asked_for || options.algorithm != "tree" || layout.is_tree(),
            "transport hierarchical sums in tree order only where hosts hold equal, aligned "
            "power-of-two blocks of ranks; here are ",
            layout.num_ranks(), " ranks on ", layout.num_hosts(),
            " hosts; choose algorithm auto, or transport tcp");
  const bool is_flat =
      options.algorithm == "ring" || (options.algorithm == "tree" && !layout.is_tree());
  if (layout.num_hosts() == layout.num_ranks() || (!is_asked_for && is_flat)) return world;
  return std::make_unique<HierarchicalTransport>(std::move(world), std::move(layout),
                                                 options.launch.job_id, options.timeout);
}

}  // namespace deepseek_train::collectives
