// One owner for each CUDA handle.
#pragma once

#include <memory>
#include <utility>

#include "collectives/backends/nccl/gpu_api.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {

using GpuApiPointer = std::shared_ptr<const GpuApi>;

// Throws Unavailable with CUDA's own text if `error` is one.
inline void check_cuda(const CudaApi& cuda, cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cuda.get_last_error();  // clears it, so that the caller's next check does not find it
  throw Unavailable(concat(what, ": ", cuda.get_error_string(error)));
}

// Makes a device this thread's current one while it lives.
class DeviceScope {
 public:
  DeviceScope(const GpuApi& api, int device) : api_(api) {
    check_cuda(api.cuda, api.cuda.get_device(&previous_), "cudaGetDevice");
    check_cuda(api.cuda, api.cuda.set_device(device), "cudaSetDevice");
  }
  ~DeviceScope() { api_.cuda.set_device(previous_); }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  const GpuApi& api_;
  int previous_ = 0;
};

// A stream of the current device that does not wait for the default stream.
class UniqueStream {
 public:
  explicit UniqueStream(GpuApiPointer api) : api_(std::move(api)) {
    check_cuda(api_->cuda, api_->cuda.stream_create_with_flags(&stream_, cudaStreamNonBlocking),
               "cudaStreamCreateWithFlags");
  }
  // CUDA lets what is queued go on and frees the stream after it.
  ~UniqueStream() { api_->cuda.stream_destroy(stream_); }
  UniqueStream(const UniqueStream&) = delete;
  UniqueStream& operator=(const UniqueStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  GpuApiPointer api_;
  cudaStream_t stream_ = nullptr;
};

// Without timing. Of the current device.
class UniqueEvent {
 public:
  explicit UniqueEvent(GpuApiPointer api) : api_(std::move(api)) {
    check_cuda(api_->cuda, api_->cuda.event_create_with_flags(&event_, cudaEventDisableTiming),
               "cudaEventCreateWithFlags");
  }
  ~UniqueEvent() { api_->cuda.event_destroy(event_); }
  UniqueEvent(const UniqueEvent&) = delete;
  UniqueEvent& operator=(const UniqueEvent&) = delete;

  void record(cudaStream_t stream) {
    check_cuda(api_->cuda, api_->cuda.event_record(event_, stream), "cudaEventRecord");
  }
  void make_wait(cudaStream_t stream) const {
    check_cuda(api_->cuda, api_->cuda.stream_wait_event(stream, event_, 0), "cudaStreamWaitEvent");
  }
  // Throws Unavailable if the device reports an error.
  bool is_reached() const {
    const cudaError_t state = api_->cuda.event_query(event_);
    if (state == cudaErrorNotReady) {
      api_->cuda.get_last_error();
      return false;
    }
    check_cuda(api_->cuda, state, "the GPU");
    return true;
  }

 private:
  GpuApiPointer api_;
  cudaEvent_t event_ = nullptr;
};

// Device memory.
class DeviceMemory {
 public:
  DeviceMemory(GpuApiPointer api, size_t bytes) : api_(std::move(api)) {
    check_cuda(api_->cuda, api_->cuda.malloc(&data_, bytes), "cudaMalloc");
  }
  ~DeviceMemory() { api_->cuda.free(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  void* data() const { return data_; }

 private:
  GpuApiPointer api_;
  void* data_ = nullptr;
};

}  // namespace deepseek_train::collectives
