// Chunk c lies in slot c % kNumSlots. Two streams, one for each direction of PCIe; events say when
// a slot has been filled by the GPU, and when it may be filled again.
#include "collectives/backends/nccl/host_reduced.h"

#include <algorithm>
#include <array>
#include <thread>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"

namespace deepseek_train::collectives {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kNumSlots = 4;
constexpr size_t kAhead = 2;  // chunks on their way from the GPU while one is reduced

// Memory of the arena that the GPU reads and writes directly.
class PinnedArena {
 public:
  PinnedArena(GpuApiPointer api, Communicator& communicator, size_t bytes)
      : api_(std::move(api)), buffer_(communicator.allocate_shared(bytes)) {
    check_cuda(api_->cuda,
               api_->cuda.host_register(buffer_->data(), bytes, cudaHostRegisterPortable),
               "cudaHostRegister");
  }
  ~PinnedArena() { api_->cuda.host_unregister(buffer_->data()); }
  PinnedArena(const PinnedArena&) = delete;
  PinnedArena& operator=(const PinnedArena&) = delete;
  std::byte* data() const { return static_cast<std::byte*>(buffer_->data()); }

 private:
  GpuApiPointer api_;
  std::unique_ptr<SharedBuffer> buffer_;
};

struct Slot {
  explicit Slot(const GpuApiPointer& api) : filled(api), emptied(api) {}
  UniqueEvent filled;
  UniqueEvent emptied;
};

class PipelinedAllReduce : public HostReducedAllReduce {
 public:
  PipelinedAllReduce(const GpuApiPointer& api, Communicator& communicator,
                     const HostReducedOptions& options)
      : api_(api),
        communicator_(communicator),
        options_(options),
        arena_(api, communicator, kNumSlots * options.chunk_bytes),
        inputs_ready_(api),
        to_host_(api),
        to_device_(api),
        slots_{Slot(api), Slot(api), Slot(api), Slot(api)} {}

  void all_reduce(void* device_data, size_t count, DType dtype, ReduceOp op,
                  std::source_location site) override {
    DST_CHECK(device_data || count == 0, "all_reduce of ", count, " elements got a null pointer");
    DST_CHECK(is_reducible(dtype, op), "all_reduce cannot take ", name_of(op), " of ",
              name_of(dtype));
    const DeviceScope device(*api_, options_.device);
    try {
      run({.kind = Collective::kAllReduce, .dtype = dtype, .op = op, .site = site},
          static_cast<std::byte*>(device_data), count);
    } catch (const std::exception& error) {
      communicator_.abort(error.what());
      drain();
      throw;
    }
  }

 private:
  void run(CollectiveCall call, std::byte* data, size_t count) {
    const size_t element_bytes = size_bytes(call.dtype);
    const size_t per_chunk = options_.chunk_bytes / element_bytes;
    const size_t num_chunks = (count + per_chunk - 1) / per_chunk;
    const auto elements = [&](size_t chunk) {
      return std::min(per_chunk, count - chunk * per_chunk);
    };
    const auto place = [&](size_t chunk) { return data + chunk * per_chunk * element_bytes; };
    inputs_ready_.record(static_cast<cudaStream_t>(options_.stream));
    inputs_ready_.make_wait(to_host_.get());
    size_t fetched = 0;
    for (size_t chunk = 0; chunk < num_chunks; ++chunk) {
      for (; fetched < std::min(num_chunks, chunk + 1 + kAhead); ++fetched)
        fetch(fetched, place(fetched), elements(fetched) * element_bytes);
      await(slots_[chunk % kNumSlots].filled);
      call.in = call.out = memory_of(chunk);
      call.count = elements(chunk);
      communicator_.run(call);
      give_back(chunk, place(chunk), call.count * element_bytes);
    }
    if (num_chunks > 0) await(slots_[(num_chunks - 1) % kNumSlots].emptied);
  }

  std::byte* memory_of(size_t chunk) const {
    return arena_.data() + chunk % kNumSlots * options_.chunk_bytes;
  }

  void fetch(size_t chunk, const std::byte* from, size_t bytes) {
    Slot& slot = slots_[chunk % kNumSlots];
    if (chunk >= kNumSlots) slot.emptied.make_wait(to_host_.get());
    copy(memory_of(chunk), from, bytes, cudaMemcpyDeviceToHost, to_host_);
    slot.filled.record(to_host_.get());
  }

  void give_back(size_t chunk, std::byte* to, size_t bytes) {
    copy(to, memory_of(chunk), bytes, cudaMemcpyHostToDevice, to_device_);
    slots_[chunk % kNumSlots].emptied.record(to_device_.get());
  }

  void copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
            const UniqueStream& stream) {
    check_cuda(api_->cuda, api_->cuda.memcpy_async(to, from, bytes, kind, stream.get()),
               "cudaMemcpyAsync");
  }

  void await(const UniqueEvent& event) const {
    const auto start = Clock::now();
    while (!event.is_reached()) {
      const auto waited = Clock::now() - start;
      DST_CHECK_AS(Timeout, waited < communicator_.timeout(), "rank ", communicator_.rank(),
                   " waited ", communicator_.timeout().count(), " ms for a copy of its GPU ",
                   options_.device);
      if (waited > std::chrono::microseconds(50))
        std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }

  // After an error: nothing may still be copied when the caller frees its memory.
  void drain() noexcept {
    try {
      for (UniqueStream* stream : {&to_host_, &to_device_}) {
        UniqueEvent end(api_);
        end.record(stream->get());
        await(end);
      }
    } catch (const std::exception& error) {
      log_warning("after a failed all_reduce: ", error.what());
    }
  }

  GpuApiPointer api_;
  Communicator& communicator_;
  const HostReducedOptions options_;
  PinnedArena arena_;
  UniqueEvent inputs_ready_;
  UniqueStream to_host_;
  UniqueStream to_device_;
  std::array<Slot, kNumSlots> slots_;
};

}  // namespace

std::unique_ptr<HostReducedAllReduce> make_host_reduced_all_reduce(
    GpuApiPointer api, Communicator& communicator, const HostReducedOptions& options) {
  DST_CHECK(options.chunk_bytes >= 64 && options.chunk_bytes % 64 == 0,
            "HostReducedOptions::chunk_bytes is ", options.chunk_bytes,
            "; wanted a multiple of 64, some MiB");
  const DeviceScope device(*api, options.device);
  return std::make_unique<PipelinedAllReduce>(api, communicator, options);
}

std::unique_ptr<HostReducedAllReduce> make_host_reduced_all_reduce(
    Communicator& communicator, const HostReducedOptions& options) {
  return make_host_reduced_all_reduce(load_cuda_api(), communicator, options);
}

}  // namespace deepseek_train::collectives
