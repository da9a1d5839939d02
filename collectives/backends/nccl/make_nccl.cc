#include "collectives/backends/native/native_communicator.h"
#include "collectives/backends/nccl/nccl_communicator.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

int choose_device(const GpuApi& api, const CommunicatorOptions& options, const NcclOptions& nccl) {
  int num_devices = 0;
  check_cuda(api.cuda, api.cuda.get_device_count(&num_devices), "cudaGetDeviceCount");
  const int device = nccl.device < 0 ? options.launch.local_rank : nccl.device;
  DST_CHECK_AS(Unavailable, device < num_devices, "rank ", options.launch.rank,
               " wants GPU number ", device, ", this host has ", num_devices,
               "; start no more ranks a host than it has GPUs");
  return device;
}

}  // namespace

bool has_nccl_backend() { return true; }

std::unique_ptr<Communicator> make_nccl_communicator(const CommunicatorOptions& options,
                                                     const NcclOptions& nccl) {
  const auto api = load_gpu_api();
  const NcclContext context{api, choose_device(*api, options, nccl)};
  return make_nccl_communicator(context, make_native_communicator(options), nccl.stream);
}

}  // namespace deepseek_train::collectives
