#include "collectives/backends/nccl/gpu_api.h"

#include <string>

#include "collectives/backends/nccl/shared_library.h"
#include "deepseek_train/core/log.h"

namespace deepseek_train::collectives {
namespace {

// Where CMake found them; the names it passes are empty if it found none.
std::vector<std::string> candidates(const std::string& name, const char* found_at_build) {
  std::vector<std::string> paths;
  if (*found_at_build) paths.emplace_back(found_at_build);
  paths.push_back(name);
  return paths;
}

struct CudaLibrary {
  CudaLibrary() : library(name(), candidates(name(), DST_CUDART_LIBRARY)) {
    library.find("cudaGetErrorString", api.get_error_string);
    library.find("cudaGetLastError", api.get_last_error);
    library.find("cudaGetDeviceCount", api.get_device_count);
    library.find("cudaGetDevice", api.get_device);
    library.find("cudaSetDevice", api.set_device);
    library.find("cudaStreamCreateWithFlags", api.stream_create_with_flags);
    library.find("cudaStreamDestroy", api.stream_destroy);
    library.find("cudaStreamWaitEvent", api.stream_wait_event);
    library.find("cudaEventCreateWithFlags", api.event_create_with_flags);
    library.find("cudaEventDestroy", api.event_destroy);
    library.find("cudaEventRecord", api.event_record);
    library.find("cudaEventQuery", api.event_query);
    library.find("cudaMalloc", api.malloc);
    library.find("cudaFree", api.free);
    library.find("cudaMemcpyAsync", api.memcpy_async);
    library.find("cudaMemsetAsync", api.memset_async);
    library.find("cudaHostRegister", api.host_register);
    library.find("cudaHostUnregister", api.host_unregister);
  }
  static std::string name() { return concat("libcudart.so.", CUDART_VERSION / 1000); }

  SharedLibrary library;
  CudaApi api = {};
};

struct NcclLibrary {
  NcclLibrary() : library("libnccl.so.2", candidates("libnccl.so.2", DST_NCCL_LIBRARY)) {
    library.find("ncclGetErrorString", api.get_error_string);
    library.find("ncclGetLastError", api.get_last_error);
    library.find("ncclGetVersion", api.get_version);
    library.find("ncclGetUniqueId", api.get_unique_id);
    library.find("ncclCommInitRankConfig", api.comm_init_rank_config);
    library.find("ncclCommFinalize", api.comm_finalize);
    library.find("ncclCommDestroy", api.comm_destroy);
    library.find("ncclCommAbort", api.comm_abort);
    library.find("ncclCommSplit", api.comm_split);
    library.find_optional("ncclCommShrink", api.comm_shrink);
    library.find_optional("ncclCommRevoke", api.comm_revoke);
    library.find("ncclCommGetAsyncError", api.comm_get_async_error);
    library.find("ncclCommRegister", api.comm_register);
    library.find("ncclCommDeregister", api.comm_deregister);
    library.find("ncclMemAlloc", api.mem_alloc);
    library.find("ncclMemFree", api.mem_free);
    library.find("ncclGroupStart", api.group_start);
    library.find("ncclGroupEnd", api.group_end);
    library.find("ncclAllReduce", api.all_reduce);
    library.find("ncclReduce", api.reduce);
    library.find("ncclReduceScatter", api.reduce_scatter);
    library.find("ncclAllGather", api.all_gather);
    library.find("ncclBroadcast", api.broadcast);
    library.find("ncclSend", api.send);
    library.find("ncclRecv", api.recv);
    int version = 0;
    api.get_version(&version);
    log_debug("NCCL ", version, ", built against ", NCCL_VERSION_CODE);
  }

  SharedLibrary library;
  NcclApi api = {};
};

}  // namespace

std::shared_ptr<const GpuApi> load_cuda_api() {
  static const CudaLibrary cuda;
  return std::make_shared<const GpuApi>(GpuApi{cuda.api, {}});
}

std::shared_ptr<const GpuApi> load_gpu_api() {
  // NCCL resolves its own need of the runtime; ours is loaded first so that both share it.
  const auto cuda = load_cuda_api();
  static const NcclLibrary nccl;
  return std::make_shared<const GpuApi>(GpuApi{cuda->cuda, nccl.api});
}

}  // namespace deepseek_train::collectives
