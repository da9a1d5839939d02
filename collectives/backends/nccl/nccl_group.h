// One NCCL group and what keeps it safe: bounded waits, one owner, one record of its end.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "collectives/backends/nccl/gpu_owners.h"
#include "collectives/backends/nccl/rank_pulse.h"
#include "collectives/transport/call_signature.h"
#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::collectives {

class NcclWork;

// What a group and those made of it share.
struct NcclContext {
  GpuApiPointer api;
  int device = 0;
};

// Shared by its communicator, the works under way and the registered buffers; the last one ends it.
// NCCL's own calls are made under one mutex and never block (NCCL's non-blocking mode), so that
// abort() from another thread waits for no peer.
class NcclGroup : public std::enable_shared_from_this<NcclGroup> {
 public:
  using Clock = std::chrono::steady_clock;
  // Puts NCCL's operations of one call on the stream; results go through check().
  using Issue = std::function<void(ncclComm_t comm, cudaStream_t stream)>;

  // `host` has the same ranks. NCCL's side is missing until connect(); split() and shrink() give
  // groups that have it.
  NcclGroup(const NcclContext& context, std::unique_ptr<Communicator> host, void* caller_stream);
  // Without close(), the group fails.
  ~NcclGroup();

  // Collective: a new NCCL group, its id made by rank 0.
  void connect();
  // Collective: part of this group as a new one; nullptr for a negative color.
  std::shared_ptr<NcclGroup> split(int color, int key);
  // Collective among those that still live, after a failure. `lost`: by their old ranks.
  std::shared_ptr<NcclGroup> shrink(std::vector<int>& lost);
  // Ends the group in good order if all ranks do so within a few seconds and no work is under way;
  // else fails it. `is_unwinding`: because of an exception, so nobody need wait.
  void close(bool is_unwinding) noexcept;

  std::shared_ptr<Work> enqueue(const CallSignature& call, const Issue& issue);
  // Several operations as one, between NCCL's group start and end.
  void grouped(const std::function<void()>& issue);
  // Throws Unavailable with NCCL's own text, unless `result` is success or "in progress".
  void check(ncclResult_t result, const char* what) const;
  // Records why the group has ended (the first reason counts), tells the peers, stops the kernels.
  void fail(const std::string& reason) noexcept;

  // Makes memory known to NCCL. Local.
  void* register_memory(void* data, size_t bytes);
  void deregister_memory(void* handle) noexcept;

  const NcclContext& context() const { return context_; }
  const CudaApi& cuda() const { return context_.api->cuda; }
  const NcclApi& nccl() const { return context_.api->nccl; }
  Communicator& host() { return *host_; }
  void set_caller_stream(void* stream) { caller_stream_ = stream; }
  uint64_t next_sequence() { return ++sequence_; }

 private:
  friend class NcclWork;

  // Waits for the event; a failure on the way ends the group.
  void await(const UniqueEvent& event, const CallSignature& call);
  void throw_if_failed() const;
  // While waiting for peers: throws if the group has failed, a peer has died or makes another call,
  // or the time is over.
  void check_health(const CallSignature& call, Clock::time_point deadline) const;
  // Mutex held. Throws if NCCL reports an error; true if a call of NCCL is still in progress.
  bool is_in_progress(ncclComm_t comm, const char* what) const;
  void settle(ncclComm_t comm, const CallSignature& call, const char* what) const;
  // Until NCCL has made this group's comm_; `parent` may be null.
  void settle_new(ncclComm_t parent, const char* what);
  // Runs the body; its error ends the group.
  void guarded(const std::function<void()>& body);
  void stop_kernels() noexcept;
  bool has_pending_work() noexcept;
  bool wait_for_pending_work() noexcept;
  bool finalize() noexcept;
  void abort_comm() noexcept;

  const NcclContext context_;
  const std::unique_ptr<Communicator> host_;
  RankPulse pulse_;
  std::unique_ptr<UniqueStream> stream_;
  std::atomic<void*> caller_stream_;
  std::atomic<uint64_t> sequence_ = 0;
  bool is_closed_ = false;

  std::mutex mutex_;  // NCCL's calls
  ncclComm_t comm_ = nullptr;
  bool is_connected_ = false;
  std::shared_ptr<UniqueEvent> last_;  // of the latest call

  mutable std::mutex failure_mutex_;
  std::string failure_;
  std::atomic<bool> has_failed_ = false;
};

class NcclWork : public Work {
 public:
  NcclWork(std::shared_ptr<NcclGroup> group, std::shared_ptr<UniqueEvent> event,
           const CallSignature& call)
      : group_(std::move(group)), event_(std::move(event)), call_(call) {}
  bool is_completed() override;
  void wait() override;
  void make_wait(void* stream) const { event_->make_wait(static_cast<cudaStream_t>(stream)); }

 private:
  std::mutex mutex_;
  std::shared_ptr<NcclGroup> group_;
  std::shared_ptr<UniqueEvent> event_;
  const CallSignature call_;
  bool is_done_ = false;
  std::exception_ptr error_;
};

}  // namespace deepseek_train::collectives
