#include "deepseek_train/collectives/host_reduced.h"
#include "deepseek_train/collectives/nccl.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

constexpr const char* kHowToBuild =
    "this build has no NCCL backend; install the CUDA toolkit and NCCL 2.27 or later with their "
    "headers and configure with -DDST_WITH_NCCL=ON, or use backend \"native\"";

}  // namespace

bool has_nccl_backend() { return false; }

std::unique_ptr<Communicator> make_nccl_communicator(const CommunicatorOptions&,
                                                     const NcclOptions&) {
  throw InvalidArgument(kHowToBuild);
}

void set_caller_stream(Communicator&, void*) { throw InvalidArgument(kHowToBuild); }

void make_stream_wait(Work&, void*) { throw InvalidArgument(kHowToBuild); }

std::unique_ptr<HostReducedAllReduce> make_host_reduced_all_reduce(Communicator&,
                                                                   const HostReducedOptions&) {
  throw InvalidArgument(kHowToBuild);
}

}  // namespace deepseek_train::collectives
