// How the ranks that still run agree on who they are.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "collectives/transport/tcp/mesh.h"
#include "collectives/transport/tcp/recovery.h"

namespace deepseek_train::collectives {

// What came of it: new connections among the survivors.
struct SurvivorGroup {
  std::unique_ptr<TcpMesh> mesh;
  std::vector<int> members;                  // old ranks, ascending
  std::vector<int> lost;                     // the others
  std::vector<Recovery::Progress> progress;  // of the members, in their order
};

// Collective among the survivors of `mesh`, whose control plane still runs. Every rank publishes
// whom it knows to be lost, which only grows by what others publish. When all that are not lost
// publish the same, they form a mesh of their own, and a barrier on it shows that all have. Another
// death before that begins the next round. A rank that has passed the barrier says so; then the
// group stands for all, even if it has meanwhile lost somebody again, which its next call finds.
//
// Who has not published anything within the mesh's timeout counts as lost. Throws Unavailable if
// this rank was itself counted as lost, or if those that are lost but not known to have ended could
// go on as well, as the larger part of a split network (of equal parts that with the lowest rank
// goes on).
SurvivorGroup form_survivor_group(TcpMesh& mesh, Interfaces interfaces,
                                  const Recovery::Progress& progress);

}  // namespace deepseek_train::collectives
