// Every call is a sequence of non-blocking MPI calls of at most kMaxPiece elements, run in order by
// the work queue: each piece is polled with a deadline, so that a rank that never comes is an error
// and not a hang.
#include "collectives/backends/mpi/mpi_communicator.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>

#include "collectives/algorithms/coalesce.h"
#include "collectives/algorithms/exchange_parts.h"
#include "collectives/algorithms/tree_reduce.h"
#include "collectives/backends/mpi/mpi_session.h"
#include "collectives/backends/mpi/mpi_types.h"
#include "collectives/backends/native/work_queue.h"
#include "collectives/transport/call_signature.h"
#include "collectives/transport/private_buffer.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"

namespace deepseek_train::collectives {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kMaxPiece = size_t{1} << 28;  // MPI counts in int
constexpr auto kSpinTime = std::chrono::microseconds(50);
constexpr int kMessageTag = 1;

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<MpiSession> session, MPI_Comm comm,
                  std::chrono::milliseconds timeout)
      : session_(std::move(session)), comm_(comm), timeout_(timeout) {
    check_mpi(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check_mpi(MPI_Comm_rank(comm, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(comm, &size_), "MPI_Comm_size");
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::chrono::milliseconds timeout() const override { return timeout_; }
  std::string transport() const override { return "mpi"; }

  void send(const void* data, size_t bytes, int to) override {
    queue_.run([&] { message(sign_send(bytes, to), const_cast<void*>(data), bytes, to, true); });
  }
  void recv(void* data, size_t bytes, int from) override {
    queue_.run([&] { message(sign_recv(bytes, from), data, bytes, from, false); });
  }
  std::unique_ptr<Communicator> split(int color, int key) override;
  std::unique_ptr<SharedBuffer> allocate_shared(size_t bytes) override {
    auto buffer = make_private_buffer(bytes);
    barrier();
    return buffer;
  }
  Survivors shrink() override {
    throw Unavailable(
        "the mpi backend cannot go on without a lost rank; use the native backend under "
        "mpirun --enable-recovery");
  }
  std::unique_ptr<Communicator> admit(std::chrono::milliseconds) override {
    throw Unavailable("the mpi backend cannot take in another process; use the native backend");
  }
  void abort(const std::string& reason) noexcept override {
    log_error("rank ", rank_, " aborts the MPI job: ", reason);
    MPI_Abort(comm_.get(), 1);
  }

 protected:
  void execute(const CollectiveCall& call) override {
    queue_.run([&] { perform(call); });
  }
  std::shared_ptr<Work> submit(std::vector<CollectiveCall> calls) override {
    return queue_.submit([this, calls = std::move(calls)] {
      run_coalesced(calls, scratch_, [this](const CollectiveCall& call) { perform(call); });
    });
  }

 private:
  void perform(const CollectiveCall& call);
  void dispatch(const CollectiveCall& call);
  void exchange(const ExchangeParts& parts);
  void swap_bytes(int to, const void* out, size_t out_bytes, int from, void* in, size_t in_bytes);
  void all_reduce(const CollectiveCall& call);
  void reduce_scatter(const CollectiveCall& call);
  void all_gather(const CollectiveCall& call);
  void broadcast(const CollectiveCall& call);
  void message(const CallSignature& call, void* data, size_t bytes, int peer, bool is_send);
  // Polls until the request is done.
  void await(MPI_Request& request);
  void throw_if_failed() const {
    DST_CHECK_AS(Unavailable, !has_failed_,
                 "this communicator has ended after an earlier error; make a new one");
  }
  // Starts an MPI call for each piece of `count` elements and waits for it.
  template <typename Start>
  void in_pieces(size_t count, const Start& start);

  const std::shared_ptr<MpiSession> session_;
  const UniqueMpiComm comm_;
  const std::chrono::milliseconds timeout_;
  const MpiOperations operations_;
  int rank_ = 0;
  int size_ = 1;
  uint64_t sequence_ = 0;
  CallSignature current_;
  std::vector<std::byte> scratch_;
  std::atomic<bool> has_failed_ = false;
  WorkQueue queue_;  // last: stops before the communicator goes
};

void MpiCommunicator::await(MPI_Request& request) {
  const auto start = Clock::now();
  for (;;) {
    int done = 0;
    check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), describe(current_).c_str());
    if (done) return;
    const auto waited = Clock::now() - start;
    if (waited > timeout_) {
      // Left to MPI: it may still write to the buffer, which is one more reason why the group has
      // ended.
      throw Timeout(concat("rank ", rank_, " waited ", timeout_.count(),
                           " ms for the other ranks in ", describe(current_),
                           "; MPI does not tell which is missing"));
    }
    if (waited > kSpinTime)
      std::this_thread::sleep_for(
          std::min<Clock::duration>(waited / 8, std::chrono::milliseconds(1)));
  }
}

template <typename Start>
void MpiCommunicator::in_pieces(size_t count, const Start& start) {
  for (size_t begin = 0; begin < count; begin += kMaxPiece) {
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(start(begin, static_cast<int>(std::min(kMaxPiece, count - begin)), &request),
              describe(current_).c_str());
    await(request);
  }
}

void MpiCommunicator::perform(const CollectiveCall& call) {
  throw_if_failed();
  current_ = sign(call, ++sequence_);
  try {
    dispatch(call);
  } catch (...) {
    has_failed_ = true;
    throw;
  }
}

void MpiCommunicator::dispatch(const CollectiveCall& call) {
  DST_CHECK(call.op != ReduceOp::kAvg || size_bytes(call.dtype) > 1,
            "the MPI backend cannot average ", name_of(call.dtype),
            ", whose sums do not fit; use the native backend");
  switch (call.kind) {
    case Collective::kAllReduce: return all_reduce(call);
    case Collective::kReduceScatter: return reduce_scatter(call);
    case Collective::kAllGather:
      if (call.out_counts.empty()) return all_gather(call);
      return exchange(parts_of(call, rank_, size_));
    case Collective::kBroadcast: return broadcast(call);
    case Collective::kBarrier:
      return in_pieces(
          1, [&](size_t, int, MPI_Request* request) { return MPI_Ibarrier(comm_.get(), request); });
    case Collective::kAllToAll:
    case Collective::kGather:
    case Collective::kScatter: return exchange(parts_of(call, rank_, size_));
  }
}

// Every two ranks in turn: who is `hop` ahead gets, who is `hop` behind gives.
void MpiCommunicator::exchange(const ExchangeParts& parts) {
  if (!parts.in[rank_].empty() && parts.in[rank_].data() != parts.out[rank_].data())
    std::memcpy(parts.in[rank_].data(), parts.out[rank_].data(), parts.in[rank_].size());
  for (int hop = 1; hop < size_; ++hop) {
    const int to = (rank_ + hop) % size_;
    const int from = (rank_ + size_ - hop) % size_;
    uint64_t offered = 0;
    const uint64_t mine = parts.out[to].size();
    swap_bytes(to, &mine, sizeof(mine), from, &offered, sizeof(offered));
    DST_CHECK(offered == parts.in[from].size(), describe(current_), ": rank ", from, " sends ",
              offered, " bytes to rank ", rank_, ", which expects ", parts.in[from].size());
    swap_bytes(to, parts.out[to].data(), mine, from, parts.in[from].data(), offered);
  }
}

void MpiCommunicator::swap_bytes(int to, const void* out, size_t out_bytes, int from, void* in,
                                 size_t in_bytes) {
  for (size_t begin = 0; begin < std::max(out_bytes, in_bytes); begin += kMaxPiece) {
    MPI_Request requests[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
    if (begin < in_bytes)
      check_mpi(MPI_Irecv(static_cast<std::byte*>(in) + begin,
                          static_cast<int>(std::min(kMaxPiece, in_bytes - begin)), MPI_BYTE, from,
                          kMessageTag, comm_.get(), &requests[0]),
                "MPI_Irecv");
    if (begin < out_bytes)
      check_mpi(MPI_Isend(static_cast<const std::byte*>(out) + begin,
                          static_cast<int>(std::min(kMaxPiece, out_bytes - begin)), MPI_BYTE, to,
                          kMessageTag, comm_.get(), &requests[1]),
                "MPI_Isend");
    await(requests[0]);
    await(requests[1]);
  }
}

void MpiCommunicator::all_reduce(const CollectiveCall& call) {
  auto* data = static_cast<std::byte*>(call.out);
  const size_t element_bytes = size_bytes(call.dtype);
  in_pieces(call.count, [&](size_t begin, int count, MPI_Request* request) {
    return MPI_Iallreduce(MPI_IN_PLACE, data + begin * element_bytes, count, mpi_type(call.dtype),
                          operations_.find(call.dtype, call.op), comm_.get(), request);
  });
  if (call.op == ReduceOp::kAvg) divide(call.dtype, data, call.count, size_);
}

void MpiCommunicator::reduce_scatter(const CollectiveCall& call) {
  if (!call.in_counts.empty())
    return reduce_scatter_by_exchange(call, rank_, size_, scratch_,
                                      [this](const ExchangeParts& parts) { exchange(parts); });
  DST_CHECK(call.count <= kMaxPiece / size_, "the MPI backend scatters at most ", kMaxPiece / size_,
            " elements per rank, found ", call.count, "; cut the buffer");
  // Copied, because MPI demands buffers that do not overlap and ours may.
  std::vector<std::byte> in(call.count * size_ * size_bytes(call.dtype));
  if (!in.empty()) std::memcpy(in.data(), call.in, in.size());
  in_pieces(call.count, [&](size_t, int count, MPI_Request* request) {
    return MPI_Ireduce_scatter_block(in.data(), call.out, count, mpi_type(call.dtype),
                                     operations_.find(call.dtype, call.op), comm_.get(), request);
  });
  if (call.op == ReduceOp::kAvg)
    divide(call.dtype, static_cast<std::byte*>(call.out), call.count, size_);
}

void MpiCommunicator::all_gather(const CollectiveCall& call) {
  const size_t bytes = call.count * size_bytes(call.dtype);
  auto* out = static_cast<std::byte*>(call.out);
  const bool is_in_place = call.in == out + rank_ * bytes;
  DST_CHECK(bytes <= kMaxPiece, "the MPI backend gathers at most ", kMaxPiece,
            " bytes per rank, found ", bytes, "; cut the buffer");
  in_pieces(bytes, [&](size_t, int count, MPI_Request* request) {
    return MPI_Iallgather(is_in_place ? MPI_IN_PLACE : call.in, count, MPI_BYTE, out, count,
                          MPI_BYTE, comm_.get(), request);
  });
}

void MpiCommunicator::broadcast(const CollectiveCall& call) {
  in_pieces(call.count * size_bytes(call.dtype),
            [&](size_t begin, int count, MPI_Request* request) {
              return MPI_Ibcast(static_cast<std::byte*>(call.out) + begin, count, MPI_BYTE,
                                call.root, comm_.get(), request);
            });
}

void MpiCommunicator::message(const CallSignature& call, void* data, size_t bytes, int peer,
                              bool is_send) {
  DST_CHECK(peer >= 0 && peer < size_ && peer != rank_, describe(call), ": ", peer,
            " is not another rank of ", size_);
  DST_CHECK(data || bytes == 0, describe(call), " got a null pointer");
  throw_if_failed();
  current_ = call;
  const auto transfer = [&](void* buffer, size_t size) {
    in_pieces(size, [&](size_t begin, int count, MPI_Request* request) {
      auto* piece = static_cast<std::byte*>(buffer) + begin;
      return is_send ? MPI_Isend(piece, count, MPI_BYTE, peer, kMessageTag, comm_.get(), request)
                     : MPI_Irecv(piece, count, MPI_BYTE, peer, kMessageTag, comm_.get(), request);
    });
  };
  uint64_t message_bytes = bytes;
  try {
    transfer(&message_bytes, sizeof(message_bytes));
    DST_CHECK(message_bytes == bytes, "recv of ", bytes, " bytes from rank ", peer,
              ", which sends ", message_bytes, "; both must name the same size");
    transfer(data, bytes);
  } catch (...) {
    has_failed_ = true;
    throw;
  }
}

std::unique_ptr<Communicator> MpiCommunicator::split(int color, int key) {
  barrier();  // bounded, where MPI_Comm_split is not
  MPI_Comm comm = MPI_COMM_NULL;
  queue_.run([&] {
    check_mpi(MPI_Comm_split(comm_.get(), color < 0 ? MPI_UNDEFINED : color, key, &comm),
              "MPI_Comm_split");
  });
  if (comm == MPI_COMM_NULL) return nullptr;
  return std::make_unique<MpiCommunicator>(session_, comm, timeout_);
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(const CommunicatorOptions& options) {
  auto session = MpiSession::acquire();
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  auto communicator = std::make_unique<MpiCommunicator>(std::move(session), comm, options.timeout);
  DST_CHECK(
      communicator->rank() == options.launch.rank && communicator->size() == options.launch.size,
      "MPI says rank ", communicator->rank(), " of ", communicator->size(), ", the launch rank ",
      options.launch.rank, " of ", options.launch.size,
      "; start the program with the mpirun of the MPI it is linked with");
  return communicator;
}

}  // namespace deepseek_train::collectives
