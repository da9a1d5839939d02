// The functions of the CUDA runtime and of NCCL that we call, as tables: loaded at run time, and
// replaced by a model in tests.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <memory>

namespace deepseek_train::collectives {

static_assert(NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0), "wanted nccl.h of NCCL 2.27 or later");

// Written out, because some of these names are overloaded in C++.
struct CudaApi {
  const char* (*get_error_string)(cudaError_t);
  cudaError_t (*get_last_error)();
  cudaError_t (*get_device_count)(int*);
  cudaError_t (*get_device)(int*);
  cudaError_t (*set_device)(int);
  cudaError_t (*stream_create_with_flags)(cudaStream_t*, unsigned);
  cudaError_t (*stream_destroy)(cudaStream_t);
  cudaError_t (*stream_wait_event)(cudaStream_t, cudaEvent_t, unsigned);
  cudaError_t (*event_create_with_flags)(cudaEvent_t*, unsigned);
  cudaError_t (*event_destroy)(cudaEvent_t);
  cudaError_t (*event_record)(cudaEvent_t, cudaStream_t);
  cudaError_t (*event_query)(cudaEvent_t);
  cudaError_t (*malloc)(void**, size_t);
  cudaError_t (*free)(void*);
  cudaError_t (*memcpy_async)(void*, const void*, size_t, cudaMemcpyKind, cudaStream_t);
  cudaError_t (*memset_async)(void*, int, size_t, cudaStream_t);
  cudaError_t (*host_register)(void*, size_t, unsigned);
  cudaError_t (*host_unregister)(void*);
};

struct NcclApi {
  decltype(&ncclGetErrorString) get_error_string;
  decltype(&ncclGetLastError) get_last_error;
  decltype(&ncclGetVersion) get_version;
  decltype(&ncclGetUniqueId) get_unique_id;
  decltype(&ncclCommInitRankConfig) comm_init_rank_config;
  decltype(&ncclCommFinalize) comm_finalize;
  decltype(&ncclCommDestroy) comm_destroy;
  decltype(&ncclCommAbort) comm_abort;
  decltype(&ncclCommSplit) comm_split;
  decltype(&ncclCommShrink) comm_shrink;         // null before 2.27
  ncclResult_t (*comm_revoke)(ncclComm_t, int);  // null where the library has none
  decltype(&ncclCommGetAsyncError) comm_get_async_error;
  decltype(&ncclCommRegister) comm_register;
  decltype(&ncclCommDeregister) comm_deregister;
  decltype(&ncclMemAlloc) mem_alloc;
  decltype(&ncclMemFree) mem_free;
  decltype(&ncclGroupStart) group_start;
  decltype(&ncclGroupEnd) group_end;
  decltype(&ncclAllReduce) all_reduce;
  decltype(&ncclReduce) reduce;
  decltype(&ncclReduceScatter) reduce_scatter;
  decltype(&ncclAllGather) all_gather;
  decltype(&ncclBroadcast) broadcast;
  decltype(&ncclSend) send;
  decltype(&ncclRecv) recv;
};

struct GpuApi {
  CudaApi cuda = {};
  NcclApi nccl = {};
};

// The CUDA runtime alone; `nccl` stays null. Throws Unavailable if it cannot be loaded.
// Thread-safe; the library stays loaded.
std::shared_ptr<const GpuApi> load_cuda_api();
// Both.
std::shared_ptr<const GpuApi> load_gpu_api();

}  // namespace deepseek_train::collectives
