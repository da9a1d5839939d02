// The CUDA half of the model.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "collectives/backends/nccl/gpu_api.h"

namespace deepseek_train::collectives::testing {

// Runs what is pushed, in order, on a thread of its own.
class FakeStream {
 public:
  FakeStream() : thread_([this] { work(); }) {}
  // What is queued still runs.
  ~FakeStream();
  void push(std::function<void()> task);

  static FakeStream* of(cudaStream_t stream) { return reinterpret_cast<FakeStream*>(stream); }

 private:
  void work();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool is_stopping_ = false;
  std::thread thread_;
};

// At once on the default stream, which has no thread.
void push(cudaStream_t stream, std::function<void()> task);

CudaApi fake_cuda_api();

}  // namespace deepseek_train::collectives::testing
