// Collectives among the ranks of one launch.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>

#include "deepseek_train/collectives/launch.h"
#include "deepseek_train/collectives/reduce_op.h"
#include "deepseek_train/collectives/shared_buffer.h"
#include "deepseek_train/collectives/work.h"
#include "deepseek_train/core/dtype.h"

namespace deepseek_train::collectives {

enum class Collective : uint8_t { kAllReduce, kReduceScatter, kAllGather, kBroadcast, kBarrier };

// One call of a collective, as a backend gets it. `count` is per rank for reduce_scatter and
// all_gather.
struct CollectiveCall {
  Collective kind = Collective::kBarrier;
  const void* in = nullptr;
  void* out = nullptr;
  size_t count = 0;
  DType dtype = DType::kUInt8;
  ReduceOp op = ReduceOp::kSum;
  int root = 0;
};

template <typename T>
concept CollectiveElement = std::is_same_v<T, float> || std::is_same_v<T, double> ||
    std::is_same_v<T, int32_t> || std::is_same_v<T, int64_t> || std::is_same_v<T, BFloat16> ||
    std::is_same_v<T, Float16> || std::is_same_v<T, uint8_t>;

template <CollectiveElement T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::kFloat32;
  if constexpr (std::is_same_v<T, double>) return DType::kFloat64;
  if constexpr (std::is_same_v<T, int32_t>) return DType::kInt32;
  if constexpr (std::is_same_v<T, int64_t>) return DType::kInt64;
  if constexpr (std::is_same_v<T, BFloat16>) return DType::kBFloat16;
  if constexpr (std::is_same_v<T, Float16>) return DType::kFloat16;
  return DType::kUInt8;
}

// A group of ranks that call the same collectives in the same order.
//
// Order: calls of one communicator run one after another in the order in which they were made, send
// and recv included. Calls on different communicators are independent. Thread-safe, but ranks must
// agree on the order, so one thread per communicator should make the calls.
//
// Reductions: fp32, fp64, bf16, fp16, int32, int64. The default order of summation on one host is
// one balanced binary tree over rank numbers, neighbours first, ((0+1)+(2+3))+..., the same for
// every element: results are equal bit by bit on all ranks and do not depend on message size,
// chunking or transport (the MPI backend's order is MPI's own).
//
// Errors: a caller's mistake seen before anything was sent (null pointer, unknown root) throws
// InvalidArgument and leaves the group as it was. Every other error ends the group: the rank that
// saw it throws Timeout (naming the rank waited for), Unavailable (a rank died or left) or
// InvalidArgument (ranks made different calls; both are named); the others, and all later calls,
// throw PeerFailure with that rank's reason. Make a new communicator to go on.
class Communicator {
 public:
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  // Bounded. Work still under way is aborted, on the other ranks too.
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Longest wait without progress.
  virtual std::chrono::milliseconds timeout() const = 0;
  // "shm", "tcp", "mpi": how bytes travel.
  virtual std::string transport() const = 0;

  // data[i] = op over all ranks, in place. Cost: on shm each byte is copied in once and out once,
  // none of it for memory from allocate_shared; on tcp 2(n-1)/n times the bytes are sent and
  // received by every rank.
  std::shared_ptr<Work> all_reduce_async(void* data, size_t count, DType dtype,
                                         ReduceOp op = ReduceOp::kSum);
  // in: [size * count_per_rank]; out: [count_per_rank], this rank's reduced part. They may overlap
  // only if out == in + rank * count_per_rank. Sends (n-1)/n of the bytes.
  std::shared_ptr<Work> reduce_scatter_async(const void* in, void* out, size_t count_per_rank,
                                             DType dtype, ReduceOp op = ReduceOp::kSum);
  // in: [count_per_rank]; out: [size * count_per_rank] in rank order. Overlap as above, mirrored.
  // Any DType.
  std::shared_ptr<Work> all_gather_async(const void* in, void* out, size_t count_per_rank,
                                         DType dtype);
  // data of `root` to all ranks. Any DType.
  std::shared_ptr<Work> broadcast_async(void* data, size_t count, DType dtype, int root = 0);
  std::shared_ptr<Work> barrier_async();

  // As above, blocking; without work under way they run on the calling thread, with no hand-over.
  template <CollectiveElement T>
  void all_reduce(std::span<T> data, ReduceOp op = ReduceOp::kSum) {
    run_checked(
        {Collective::kAllReduce, data.data(), data.data(), data.size(), dtype_of<T>(), op, 0});
  }
  template <CollectiveElement T>
  void reduce_scatter(std::span<const std::type_identity_t<T>> in, std::span<T> out,
                      ReduceOp op = ReduceOp::kSum) {
    check_sizes("reduce_scatter", in.size(), out.size());
    run_checked(
        {Collective::kReduceScatter, in.data(), out.data(), out.size(), dtype_of<T>(), op, 0});
  }
  template <CollectiveElement T>
  void all_gather(std::span<const std::type_identity_t<T>> in, std::span<T> out) {
    check_sizes("all_gather", out.size(), in.size());
    run_checked({Collective::kAllGather, in.data(), out.data(), in.size(), dtype_of<T>(),
                 ReduceOp::kSum, 0});
  }
  template <CollectiveElement T>
  void broadcast(std::span<T> data, int root = 0) {
    run_checked({Collective::kBroadcast, data.data(), data.data(), data.size(), dtype_of<T>(),
                 ReduceOp::kSum, root});
  }
  void barrier() { run_checked({}); }

  // Blocking. send may return only when the receiver has taken the bytes, so two ranks that both
  // send first may time out. A recv of another size than was sent is an InvalidArgument on the
  // receiver.
  virtual void send(const void* data, size_t bytes, int to) = 0;
  virtual void recv(void* data, size_t bytes, int from) = 0;

  // Collective. Ranks with the same color form a new communicator, ordered by key, then by old
  // rank. A negative color takes part but gets nullptr.
  virtual std::unique_ptr<Communicator> split(int color, int key) = 0;

  // Collective, all with the same size. On one host (native backend) every rank maps every rank's
  // buffer: all_reduce on any part of it is then reduced in place without a copy, as long as all
  // ranks pass such memory. Elsewhere plain memory.
  virtual std::unique_ptr<SharedBuffer> allocate_shared(size_t bytes) = 0;

  // Ends the group at once: pending and later calls of all other ranks throw PeerFailure naming
  // this rank and the reason. Callable from any thread, also while a call is under way. The mpi
  // backend ends the whole MPI job.
  virtual void abort(const std::string& reason) noexcept = 0;

 protected:
  // `call` has been checked. Blocking and non-blocking.
  virtual void run(const CollectiveCall& call) = 0;
  virtual std::shared_ptr<Work> start(const CollectiveCall& call) = 0;

 private:
  void run_checked(const CollectiveCall& call);
  std::shared_ptr<Work> start_checked(const CollectiveCall& call);
  void check(const CollectiveCall& call) const;
  void check_sizes(const char* what, size_t all, size_t per_rank) const;
};

struct CommunicatorOptions {
  LaunchInfo launch;
  std::string backend = "native";  // or "mpi"
  std::string transport = "auto";  // native: "auto" (shm on one host, else tcp), "shm", "tcp"
  // tcp: "tree" is the reproducible order above by direct exchange; "ring" is chunked and
  // pipelined, with an order of its own (slice s is summed left to right starting at rank s, 16-bit
  // types rounded at every hop). "auto": tree on one host and for 16-bit types, ring between hosts
  // otherwise. shm is always tree.
  std::string algorithm = "auto";
  std::chrono::milliseconds timeout{60'000};
  // There are no credentials yet, so listeners bind loopback only; true lets them bind every
  // interface, in clear text, and logs a warning.
  bool insecure_network = false;
};

// Collective: returns when all ranks have joined, or throws Timeout naming those that have not.
// `launch.job_id` must be unique per launch; several communicators made one after another from the
// same launch do not disturb each other.
std::unique_ptr<Communicator> make_communicator(const CommunicatorOptions& options);

}  // namespace deepseek_train::collectives
