// Collectives among the ranks of one launch.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "deepseek_train/collectives/collective_call.h"
#include "deepseek_train/collectives/communicator_options.h"
#include "deepseek_train/collectives/shared_buffer.h"
#include "deepseek_train/collectives/work.h"

namespace deepseek_train::collectives {

class Communicator;

// What is left of a group after a rank was lost.
struct Survivors {
  // What became of the all_reduce that threw on this rank. Its buffer, which must still live, holds
  // the result of all ranks (kIncludesLost: every rank had entered it), of the survivors alone
  // (kWithoutLost), or this rank's input as it was (kUntouched: another survivor had not come to this
  // call; make it again on the new communicator, and they meet). kNone: there was no such
  // all_reduce, or it was lost (private memory without CommunicatorOptions::recoverable, once every
  // rank had entered it: the buffer is undefined, as are outputs of other calls).
  enum class Interrupted { kNone, kIncludesLost, kWithoutLost, kUntouched };

  std::unique_ptr<Communicator> communicator;  // in the old order, numbered anew
  std::vector<int> lost;                       // by their old numbers, ascending
  Interrupted interrupted = Interrupted::kNone;
};

// A group of ranks that call the same collectives in the same order.
//
// Order: calls of one communicator run one after another in the order in which they were made, send
// and recv included. Calls on different communicators are independent. Thread-safe, but ranks must
// agree on the order, so one thread per communicator should make the calls.
//
// Reductions: which types and operations, see reduce_op.h. The default order of summation on one
// host is one balanced binary tree over rank numbers, neighbours first, ((0+1)+(2+3))+..., the same
// for every element: results are equal bit by bit on all ranks and do not depend on message size,
// chunking or transport (the MPI and NCCL backends' orders are their own).
//
// Errors: a caller's mistake seen before anything was sent (null pointer, unknown root) throws
// InvalidArgument and leaves the group as it was. Every other error ends the group: the rank that
// saw it throws Timeout (naming the rank waited for), Unavailable (a rank died, froze or left) or
// InvalidArgument (ranks made different calls; all are named); the others, and all later calls,
// throw PeerFailure with that rank's reason. The text says where in the program each rank was. Go
// on with shrink(), or with a new communicator.
class Communicator {
 public:
  using Site = std::source_location;

  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  // Bounded. Work still under way is aborted, on the other ranks too.
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Longest wait without progress.
  virtual std::chrono::milliseconds timeout() const = 0;
  // "shm", "tcp", "tls", "hierarchical", "mpi", "nccl": how bytes travel.
  virtual std::string transport() const = 0;

  // data[i] = op over all ranks, in place. Cost: on shm each byte is copied in once and out once,
  // none of it for memory from allocate_shared; on tcp 2(n-1)/n times the bytes are sent and
  // received by every rank.
  template <CollectiveElement T>
  void all_reduce(std::span<T> data, ReduceOp op = ReduceOp::kSum, Site site = Site::current()) {
    run({.kind = Collective::kAllReduce,
         .in = data.data(),
         .out = data.data(),
         .count = data.size(),
         .dtype = dtype_of<T>(),
         .op = op,
         .site = site});
  }
  // in: [size * out.size()]; out: this rank's reduced part. They may overlap only if out is part
  // `rank` of in. Every rank sends (n-1)/n of the bytes.
  template <CollectiveElement T>
  void reduce_scatter(std::span<const std::type_identity_t<T>> in, std::span<T> out,
                      ReduceOp op = ReduceOp::kSum, Site site = Site::current()) {
    check_sizes("reduce_scatter", in.size(), out.size());
    run({.kind = Collective::kReduceScatter,
         .in = in.data(),
         .out = out.data(),
         .count = out.size(),
         .dtype = dtype_of<T>(),
         .op = op,
         .site = site});
  }
  // out: [size * in.size()] in rank order. Overlap as above, mirrored.
  template <CollectiveElement T>
  void all_gather(std::span<const std::type_identity_t<T>> in, std::span<T> out,
                  Site site = Site::current()) {
    check_sizes("all_gather", out.size(), in.size());
    run({.kind = Collective::kAllGather,
         .in = in.data(),
         .out = out.data(),
         .count = in.size(),
         .dtype = dtype_of<T>(),
         .site = site});
  }
  // Part r of `in` goes to rank r, part s of `out` comes from rank s. No overlap. Every rank sends
  // (n-1)/n of the bytes, straight to their destination.
  template <CollectiveElement T>
  void all_to_all(std::span<const std::type_identity_t<T>> in, std::span<T> out,
                  Site site = Site::current()) {
    check_sizes("all_to_all", in.size(), out.size() / size());
    check_sizes("all_to_all", out.size(), out.size() / size());
    run({.kind = Collective::kAllToAll,
         .in = in.data(),
         .out = out.data(),
         .count = out.size() / size(),
         .dtype = dtype_of<T>(),
         .site = site});
  }
  // data of `root` to all ranks.
  template <CollectiveElement T>
  void broadcast(std::span<T> data, int root = 0, Site site = Site::current()) {
    run({.kind = Collective::kBroadcast,
         .in = data.data(),
         .out = data.data(),
         .count = data.size(),
         .dtype = dtype_of<T>(),
         .root = root,
         .site = site});
  }
  // All ranks' `in`, one after another, to `out` of `root` ([size * in.size()]; elsewhere unused).
  template <CollectiveElement T>
  void gather(std::span<const std::type_identity_t<T>> in, std::span<T> out, int root = 0,
              Site site = Site::current()) {
    if (rank() == root) check_sizes("gather", out.size(), in.size());
    run({.kind = Collective::kGather,
         .in = in.data(),
         .out = out.data(),
         .count = in.size(),
         .dtype = dtype_of<T>(),
         .root = root,
         .site = site});
  }
  // Part r of `root`'s `in` ([size * out.size()]; elsewhere unused) to `out` of rank r.
  template <CollectiveElement T>
  void scatter(std::span<const std::type_identity_t<T>> in, std::span<T> out, int root = 0,
               Site site = Site::current()) {
    if (rank() == root) check_sizes("scatter", in.size(), out.size());
    run({.kind = Collective::kScatter,
         .in = in.data(),
         .out = out.data(),
         .count = out.size(),
         .dtype = dtype_of<T>(),
         .root = root,
         .site = site});
  }
  void barrier(Site site = Site::current()) { run({.site = site}); }

  // Any call as a value: other element types, and parts of different sizes (see CollectiveCall).
  // Blocking; without work under way it runs on the calling thread, with no hand-over.
  void run(const CollectiveCall& call);
  // The same in the background.
  std::shared_ptr<Work> start(CollectiveCall call);
  // Several calls as one: one hand-over, one handle, and small all_reduces next to each other that
  // have type and operation in common travel together. Their results are those of single calls.
  std::shared_ptr<Work> start_group(std::vector<CollectiveCall> calls);

  std::shared_ptr<Work> all_reduce_async(void* data, size_t count, DType dtype,
                                         ReduceOp op = ReduceOp::kSum,
                                         Site site = Site::current()) {
    return start({.kind = Collective::kAllReduce,
                  .in = data,
                  .out = data,
                  .count = count,
                  .dtype = dtype,
                  .op = op,
                  .site = site});
  }

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

  // After an error that ended the group: the ranks that still run agree on who they are, finish the
  // interrupted all_reduce and go on in a new group. All of them call it; who does not within the
  // timeout counts as lost. Throws Unavailable where the backend cannot (mpi), or if this rank was
  // itself counted as lost.
  virtual Survivors shrink() = 0;

  // Collective. Takes in the processes that wait in join_communicator(): a new group of these
  // ranks, numbered as they are, and after them the newcomers; null if none came within `patience`
  // (which is also what the call costs). This communicator stays as it is. Throws Timeout if a
  // newcomer was admitted and then did not come, Unavailable where the backend cannot (mpi, nccl).
  virtual std::unique_ptr<Communicator> admit(std::chrono::milliseconds patience) = 0;

  // Ends the group at once: pending and later calls of all other ranks throw PeerFailure naming
  // this rank and the reason. Callable from any thread, also while a call is under way. The mpi
  // backend ends the whole MPI job.
  virtual void abort(const std::string& reason) noexcept = 0;

 protected:
  // The call has been checked. Blocking and non-blocking.
  virtual void execute(const CollectiveCall& call) = 0;
  virtual std::shared_ptr<Work> submit(std::vector<CollectiveCall> calls) = 0;

 private:
  void check(const CollectiveCall& call) const;
  void check_sizes(const char* what, size_t all, size_t per_rank) const;
};

// Collective: returns when all ranks have joined, or throws Timeout naming those that have not.
// `launch.job_id` must be unique per launch; several communicators made one after another from the
// same launch do not disturb each other.
std::unique_ptr<Communicator> make_communicator(const CommunicatorOptions& options);

// A process that was started again waits here, on the host of rank 0 and as the same user, until
// the group of options.launch.job_id admits it; which rank it becomes, the group says. Native
// backend. Throws Timeout if nobody admits it within options.timeout.
std::unique_ptr<Communicator> join_communicator(const CommunicatorOptions& options);

}  // namespace deepseek_train::collectives
