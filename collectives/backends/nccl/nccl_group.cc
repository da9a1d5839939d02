#include "collectives/backends/nccl/nccl_group.h"

#include <algorithm>
#include <thread>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"

namespace deepseek_train::collectives {
namespace {

using Clock = NcclGroup::Clock;
constexpr auto kSpinTime = std::chrono::microseconds(50);
constexpr auto kMaxSleep = std::chrono::milliseconds(1);
// How long an orderly end waits for the others, and for stopped kernels.
constexpr auto kPatience = std::chrono::milliseconds(5'000);

// Waits a little; longer, the longer it has taken already.
class Backoff {
 public:
  void pause() const {
    const auto waited = Clock::now() - start_;
    if (waited > kSpinTime)
      std::this_thread::sleep_for(std::min<Clock::duration>(waited / 8, kMaxSleep));
  }

 private:
  const Clock::time_point start_ = Clock::now();
};

ncclConfig_t non_blocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

// NCCL sets a new group's handle from a thread of its own.
ncclComm_t handle_of(ncclComm_t& comm) {
  return std::atomic_ref<ncclComm_t>(comm).load(std::memory_order_acquire);
}

}  // namespace

NcclGroup::NcclGroup(const NcclContext& context, std::unique_ptr<Communicator> host,
                     void* caller_stream)
    : context_(context),
      host_(std::move(host)),
      pulse_(host_->split(0, host_->rank())),
      caller_stream_(caller_stream) {
  const DeviceScope device(*context_.api, context_.device);
  stream_ = std::make_unique<UniqueStream>(context_.api);
}

NcclGroup::~NcclGroup() {
  if (!is_closed_) close(/*is_unwinding=*/true);
}

void NcclGroup::connect() {
  guarded([this] {
    ncclUniqueId id = {};
    if (host_->rank() == 0) check(nccl().get_unique_id(&id), "ncclGetUniqueId");
    host_->broadcast(std::span(reinterpret_cast<uint8_t*>(id.internal), sizeof(id.internal)));
    std::lock_guard lock(mutex_);
    const DeviceScope device(*context_.api, context_.device);
    ncclConfig_t config = non_blocking();
    check(nccl().comm_init_rank_config(&comm_, host_->size(), id, host_->rank(), &config),
          "ncclCommInitRankConfig");
    settle_new(nullptr, "ncclCommInitRankConfig");
  });
}

std::shared_ptr<NcclGroup> NcclGroup::split(int color, int key) {
  std::shared_ptr<NcclGroup> part;
  guarded([&] {
    auto host = host_->split(color, key);
    if (host) part = std::make_shared<NcclGroup>(context_, std::move(host), caller_stream_.load());
    if (last_) await(*last_, {});  // NCCL wants no operation under way
    std::lock_guard lock(mutex_);
    const DeviceScope device(*context_.api, context_.device);
    ncclConfig_t config = non_blocking();
    ncclComm_t none = nullptr;
    check(nccl().comm_split(comm_, part ? color : NCCL_SPLIT_NOCOLOR, key,
                            part ? &part->comm_ : &none, &config),
          "ncclCommSplit");
    settle(comm_, {}, "ncclCommSplit");
    if (part) part->settle_new(comm_, "ncclCommSplit");
  });
  return part;
}

std::shared_ptr<NcclGroup> NcclGroup::shrink(std::vector<int>& lost) {
  fail("this rank called shrink()");
  Survivors survivors = host_->shrink();
  lost = survivors.lost;
  auto group = std::make_shared<NcclGroup>(context_, std::move(survivors.communicator),
                                           caller_stream_.load());
  int32_t can_shrink = comm_ && nccl().comm_shrink && !lost.empty();
  group->host_->all_reduce(std::span(&can_shrink, 1), ReduceOp::kMin);
  if (!can_shrink) {
    group->connect();
    return group;
  }
  group->guarded([&] {
    std::lock_guard lock(mutex_);
    const DeviceScope device(*context_.api, context_.device);
    ncclConfig_t config = non_blocking();
    check(nccl().comm_shrink(comm_, lost.data(), static_cast<int>(lost.size()), &group->comm_,
                             &config, NCCL_SHRINK_ABORT),
          "ncclCommShrink");
    group->settle_new(nullptr, "ncclCommShrink");
  });
  return group;
}

std::shared_ptr<Work> NcclGroup::enqueue(const CallSignature& call, const Issue& issue) {
  std::shared_ptr<UniqueEvent> done;
  guarded([&] {
    std::lock_guard lock(mutex_);
    throw_if_failed();
    const DeviceScope device(*context_.api, context_.device);
    pulse_.set_current(call);
    UniqueEvent inputs_ready(context_.api);
    inputs_ready.record(static_cast<cudaStream_t>(caller_stream_.load()));
    inputs_ready.make_wait(stream_->get());
    done = last_ = std::make_shared<UniqueEvent>(context_.api);
    try {
      issue(comm_, stream_->get());
      settle(comm_, call, "NCCL");
    } catch (...) {
      done->record(stream_->get());  // a part may run: stop_kernels() waits for it
      throw;
    }
    done->record(stream_->get());
  });
  return std::make_shared<NcclWork>(shared_from_this(), std::move(done), call);
}

void NcclGroup::grouped(const std::function<void()>& issue) {
  check(nccl().group_start(), "ncclGroupStart");
  try {
    issue();
  } catch (...) {
    nccl().group_end();
    throw;
  }
  check(nccl().group_end(), "ncclGroupEnd");
}

void NcclGroup::check(ncclResult_t result, const char* what) const {
  if (result == ncclSuccess || result == ncclInProgress) return;
  throw Unavailable(
      concat(what, ": ", nccl().get_error_string(result), " (", nccl().get_last_error(comm_), ")"));
}

bool NcclGroup::is_in_progress(ncclComm_t comm, const char* what) const {
  ncclResult_t state = ncclSuccess;
  check(nccl().comm_get_async_error(comm, &state), "ncclCommGetAsyncError");
  check(state, what);
  return state == ncclInProgress;
}

void NcclGroup::settle(ncclComm_t comm, const CallSignature& call, const char* what) const {
  const auto deadline = Clock::now() + host_->timeout();
  for (const Backoff backoff; is_in_progress(comm, what); backoff.pause())
    check_health(call, deadline);
}

void NcclGroup::settle_new(ncclComm_t parent, const char* what) {
  const auto deadline = Clock::now() + host_->timeout();
  for (const Backoff backoff; !handle_of(comm_); backoff.pause()) {
    if (parent) is_in_progress(parent, what);
    check_health({}, deadline);
  }
  settle(handle_of(comm_), {}, what);
  is_connected_ = true;
}

void NcclGroup::await(const UniqueEvent& event, const CallSignature& call) {
  guarded([&] {
    const auto deadline = Clock::now() + host_->timeout();
    for (const Backoff backoff;; backoff.pause()) {
      // Stopped kernels reach their event too, so this comes first.
      throw_if_failed();
      if (event.is_reached()) break;
      {
        std::lock_guard lock(mutex_);
        if (comm_) is_in_progress(comm_, describe(call).c_str());
      }
      check_health(call, deadline);
    }
    throw_if_failed();
  });
}

void NcclGroup::throw_if_failed() const {
  if (!has_failed_) return;
  std::lock_guard lock(failure_mutex_);
  throw PeerFailure(failure_);
}

void NcclGroup::check_health(const CallSignature& call, Clock::time_point deadline) const {
  throw_if_failed();
  const auto where = [&] { return concat("rank ", host_->rank(), " in ", describe(call)); };
  if (const auto failure = pulse_.failure()) throw PeerFailure(concat(where(), ": ", *failure));
  if (call.sequence > 0) {
    if (const auto other = pulse_.disagreement(call))
      throw InvalidArgument(concat(where(), ": ", *other, "; all must make the same calls"));
  }
  DST_CHECK_AS(Timeout, Clock::now() < deadline, where(), " waited ", host_->timeout().count(),
               " ms for the others. ", pulse_.describe_ranks());
}

void NcclGroup::guarded(const std::function<void()>& body) {
  try {
    body();
  } catch (const std::exception& error) {
    fail(error.what());
    throw;
  }
}

void NcclGroup::fail(const std::string& reason) noexcept {
  {
    std::lock_guard lock(failure_mutex_);
    if (has_failed_) return;
    failure_ = reason;
    has_failed_ = true;
  }
  pulse_.announce_failure(reason);
  host_->abort(reason);
  stop_kernels();
}

// Bounded. After it the caller's buffers are left alone.
void NcclGroup::stop_kernels() noexcept {
  std::lock_guard lock(mutex_);
  if (!comm_) return;
  const ncclResult_t revoked = nccl().comm_revoke ? nccl().comm_revoke(comm_, 0) : ncclInvalidUsage;
  if (revoked != ncclSuccess && revoked != ncclInProgress) abort_comm();
  if (wait_for_pending_work()) return;
  abort_comm();
  if (!wait_for_pending_work())
    log_warning("NCCL's kernels still run ", 2 * kPatience.count(), " ms after they were aborted");
}

// Mutex held. False if it took too long.
bool NcclGroup::wait_for_pending_work() noexcept {
  const auto deadline = Clock::now() + kPatience;
  const auto is_revoking = [this] {
    ncclResult_t state = ncclSuccess;
    return comm_ && nccl().comm_get_async_error(comm_, &state) == ncclSuccess &&
           state == ncclInProgress;
  };
  for (const Backoff backoff; has_pending_work() || is_revoking(); backoff.pause()) {
    if (Clock::now() > deadline) return false;
  }
  return true;
}

// Mutex held.
bool NcclGroup::has_pending_work() noexcept {
  try {
    return last_ && !last_->is_reached();
  } catch (const std::exception& error) {
    log_warning(error.what());
    return false;  // a broken device runs nothing
  }
}

void NcclGroup::close(bool is_unwinding) noexcept {
  is_closed_ = true;
  if (is_unwinding) fail("the communicator was destroyed");
  bool is_busy = false;
  {
    std::lock_guard lock(mutex_);
    is_busy = has_pending_work();
  }
  if (is_busy) fail("the communicator was destroyed with calls under way");
  if (!has_failed_ && !pulse_.close(std::min(host_->timeout(), kPatience)))
    fail(pulse_.failure().value_or("another rank did not destroy its communicator in time"));
  std::lock_guard lock(mutex_);
  if (has_failed_ || !finalize()) abort_comm();
}

// Mutex held. All ranks do it now.
bool NcclGroup::finalize() noexcept {
  if (!comm_) return true;
  try {
    check(nccl().comm_finalize(comm_), "ncclCommFinalize");
    const auto deadline = Clock::now() + kPatience;
    for (const Backoff backoff; is_in_progress(comm_, "ncclCommFinalize"); backoff.pause()) {
      if (Clock::now() > deadline) return false;
    }
    check(nccl().comm_destroy(std::exchange(comm_, nullptr)), "ncclCommDestroy");
    return true;
  } catch (const std::exception& error) {
    log_warning(error.what());
    return false;
  }
}

// Mutex held.
void NcclGroup::abort_comm() noexcept {
  if (comm_) nccl().comm_abort(std::exchange(comm_, nullptr));
}

void* NcclGroup::register_memory(void* data, size_t bytes) {
  void* handle = nullptr;
  guarded([&] {
    std::lock_guard lock(mutex_);
    throw_if_failed();
    const DeviceScope device(*context_.api, context_.device);
    check(nccl().comm_register(comm_, data, bytes, &handle), "ncclCommRegister");
    settle(comm_, {}, "ncclCommRegister");
  });
  return handle;
}

void NcclGroup::deregister_memory(void* handle) noexcept {
  std::lock_guard lock(mutex_);
  if (comm_ && handle) nccl().comm_deregister(comm_, handle);
}

bool NcclWork::is_completed() {
  std::lock_guard lock(mutex_);
  if (is_done_ || group_->has_failed_) return true;
  try {
    return event_->is_reached();
  } catch (...) {
    return true;  // wait() will tell
  }
}

void NcclWork::wait() {
  std::lock_guard lock(mutex_);
  if (!is_done_) {
    try {
      group_->await(*event_, call_);
    } catch (...) {
      error_ = std::current_exception();
    }
    is_done_ = true;
  }
  if (error_) std::rethrow_exception(error_);
}

}  // namespace deepseek_train::collectives
