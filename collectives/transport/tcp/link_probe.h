// Measuring at the start what messages cost.
#pragma once

#include <functional>
#include <memory>

#include "collectives/transport/tcp/link_costs.h"
#include "collectives/transport/tcp/mesh.h"

namespace deepseek_train::collectives {

class CostCache;

// Collective. What a few dozen messages and some megabytes cost, the slowest rank counts; 10 ms on
// loopback, some tenths of a second on 100 Mbit/s. All ranks get the same figures.
LinkCosts probe_links(TcpMesh& mesh);

// The same ranks' mesh with so many connections for the data of a pair. Collective.
using MakeMesh = std::function<std::unique_ptr<TcpMesh>(int num_streams)>;

// Collective. The costs that rank 0 finds in its cache, which it tells the others, or else those of
// a probe, which it then stores. Ranks other than 0 do not use their cache. With a `make_mesh`,
// several connections a pair are tried too: if bytes then take at least an eighth less time, the
// mesh is replaced.
LinkCosts agree_on_link_costs(std::unique_ptr<TcpMesh>& mesh, CostCache& cache,
                              const MakeMesh& make_mesh = {});

}  // namespace deepseek_train::collectives
