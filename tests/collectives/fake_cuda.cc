#include "tests/collectives/fake_cuda.h"

#include <chrono>
#include <cstdlib>
#include <cstring>

namespace deepseek_train::collectives::testing {
namespace {

constexpr int kNumDevices = 8;

// Recording it again leaves those who wait for the old record alone.
struct FakeEvent {
  std::shared_ptr<std::atomic<bool>> reached = std::make_shared<std::atomic<bool>>(true);
};

FakeEvent* event_of(cudaEvent_t event) { return reinterpret_cast<FakeEvent*>(event); }

int& current_device() {
  thread_local int device = 0;
  return device;
}

}  // namespace

FakeStream::~FakeStream() {
  {
    std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void FakeStream::push(std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  changed_.notify_all();
}

void FakeStream::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return is_stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    auto task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
}

void push(cudaStream_t stream, std::function<void()> task) {
  if (stream)
    FakeStream::of(stream)->push(std::move(task));
  else
    task();
}

CudaApi fake_cuda_api() {
  CudaApi api = {};
  api.get_error_string = [](cudaError_t) { return "an error of the model"; };
  api.get_last_error = [] { return cudaSuccess; };
  api.get_device_count = [](int* count) { return *count = kNumDevices, cudaSuccess; };
  api.get_device = [](int* device) { return *device = current_device(), cudaSuccess; };
  api.set_device = [](int device) {
    if (device < 0 || device >= kNumDevices) return cudaErrorInvalidDevice;
    return current_device() = device, cudaSuccess;
  };
  api.stream_create_with_flags = [](cudaStream_t* stream, unsigned) {
    *stream = reinterpret_cast<cudaStream_t>(new FakeStream);
    return cudaSuccess;
  };
  api.stream_destroy = [](cudaStream_t stream) {
    return delete FakeStream::of(stream), cudaSuccess;
  };
  api.stream_wait_event = [](cudaStream_t stream, cudaEvent_t event, unsigned) {
    push(stream, [reached = event_of(event)->reached] {
      while (!*reached) std::this_thread::sleep_for(std::chrono::microseconds(50));
    });
    return cudaSuccess;
  };
  api.event_create_with_flags = [](cudaEvent_t* event, unsigned) {
    *event = reinterpret_cast<cudaEvent_t>(new FakeEvent);
    return cudaSuccess;
  };
  api.event_destroy = [](cudaEvent_t event) { return delete event_of(event), cudaSuccess; };
  api.event_record = [](cudaEvent_t event, cudaStream_t stream) {
    auto reached = std::make_shared<std::atomic<bool>>(false);
    event_of(event)->reached = reached;
    push(stream, [reached] { *reached = true; });
    return cudaSuccess;
  };
  api.event_query = [](cudaEvent_t event) {
    return *event_of(event)->reached ? cudaSuccess : cudaErrorNotReady;
  };
  api.malloc = [](void** data, size_t bytes) { return *data = std::malloc(bytes), cudaSuccess; };
  api.free = [](void* data) { return std::free(data), cudaSuccess; };
  api.memcpy_async = [](void* to, const void* from, size_t bytes, cudaMemcpyKind,
                        cudaStream_t stream) {
    push(stream, [=] { std::memcpy(to, from, bytes); });
    return cudaSuccess;
  };
  api.memset_async = [](void* data, int value, size_t bytes, cudaStream_t stream) {
    push(stream, [=] { std::memset(data, value, bytes); });
    return cudaSuccess;
  };
  api.host_register = [](void*, size_t, unsigned) { return cudaSuccess; };
  api.host_unregister = [](void*) { return cudaSuccess; };
  return api;
}

}  // namespace deepseek_train::collectives::testing
