#include "collectives/backends/nccl/registered_buffer.h"

#include <vector>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

// Ours alone: ncclMemAlloc and its opposite.
class NcclMemory {
 public:
  NcclMemory(NcclGroup& group, size_t bytes) : api_(group.context().api) {
    const DeviceScope device(*api_, group.context().device);
    group.check(api_->nccl.mem_alloc(&data_, bytes), "ncclMemAlloc");
  }
  ~NcclMemory() { api_->nccl.mem_free(data_); }
  NcclMemory(const NcclMemory&) = delete;
  NcclMemory& operator=(const NcclMemory&) = delete;
  void* data() const { return data_; }

 private:
  GpuApiPointer api_;
  void* data_ = nullptr;
};

class RegisteredBuffer : public SharedBuffer {
 public:
  RegisteredBuffer(const std::shared_ptr<NcclGroup>& group, size_t bytes)
      : group_(group), bytes_(bytes) {
    if (bytes == 0) return;
    memory_ = std::make_unique<NcclMemory>(*group, bytes);
    group
        ->enqueue({},
                  [&](ncclComm_t, cudaStream_t stream) {
                    check_cuda(group->cuda(),
                               group->cuda().memset_async(memory_->data(), 0, bytes, stream),
                               "cudaMemsetAsync");
                  })
        ->wait();
    handle_ = group->register_memory(memory_->data(), bytes);
  }
  ~RegisteredBuffer() override {
    if (const auto group = group_.lock()) group->deregister_memory(handle_);
  }
  void* data() const override { return memory_ ? memory_->data() : nullptr; }
  size_t size_bytes() const override { return bytes_; }
  bool is_mapped_by_peers() const override { return false; }

 private:
  std::weak_ptr<NcclGroup> group_;
  size_t bytes_;
  std::unique_ptr<NcclMemory> memory_;
  void* handle_ = nullptr;
};

}  // namespace

std::unique_ptr<SharedBuffer> make_registered_buffer(const std::shared_ptr<NcclGroup>& group,
                                                     size_t bytes) {
  Communicator& host = group->host();
  const int64_t mine[] = {static_cast<int64_t>(bytes)};
  std::vector<int64_t> all(host.size());
  host.all_gather(std::span<const int64_t>(mine), std::span(all));
  for (int r = 0; r < host.size(); ++r)
    DST_CHECK(all[r] == all[0], "allocate_shared: rank ", r, " asks for ", all[r],
              " bytes, rank 0 for ", all[0], "; all must ask for the same");
  return std::make_unique<RegisteredBuffer>(group, bytes);
}

}  // namespace deepseek_train::collectives
