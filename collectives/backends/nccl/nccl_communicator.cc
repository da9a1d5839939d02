#include "collectives/backends/nccl/nccl_communicator.h"

#include <exception>

#include "collectives/algorithms/exchange_parts.h"
#include "collectives/backends/nccl/nccl_types.h"
#include "collectives/backends/nccl/registered_buffer.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

DeviceMemory allocate_word(const NcclContext& context) {
  const DeviceScope device(*context.api, context.device);
  return DeviceMemory(context.api, sizeof(int32_t));
}

// What NCCL cannot do is the caller's mistake, and found before anything is sent.
void check_supported(const CollectiveCall& call) {
  if (call.kind == Collective::kAllReduce || call.kind == Collective::kReduceScatter)
    nccl_operation(call.dtype, call.op);
}

}  // namespace

NcclCommunicator::NcclCommunicator(std::shared_ptr<NcclGroup> group)
    : group_(std::move(group)),
      barrier_word_(allocate_word(group_->context())),
      num_exceptions_(std::uncaught_exceptions()) {}

NcclCommunicator::~NcclCommunicator() {
  group_->close(std::uncaught_exceptions() > num_exceptions_);
}

void NcclCommunicator::execute(const CollectiveCall& call) {
  check_supported(call);
  group_
      ->enqueue(sign(call, group_->next_sequence()),
                [&](ncclComm_t comm, cudaStream_t stream) { issue(call, comm, stream); })
      ->wait();
}

std::shared_ptr<Work> NcclCommunicator::submit(std::vector<CollectiveCall> calls) {
  CallSignature last;
  for (const auto& call : calls) {
    check_supported(call);
    last = sign(call, group_->next_sequence());
  }
  return group_->enqueue(last, [&](ncclComm_t comm, cudaStream_t stream) {
    for (const auto& call : calls) issue(call, comm, stream);
  });
}

void NcclCommunicator::issue(const CollectiveCall& call, ncclComm_t comm, cudaStream_t stream) {
  const auto& nccl = group_->nccl();
  switch (call.kind) {
    case Collective::kAllReduce: return all_reduce(call, comm, stream);
    case Collective::kReduceScatter: return reduce_scatter(call, comm, stream);
    case Collective::kAllGather: return all_gather(call, comm, stream);
    case Collective::kBroadcast:
      return group_->check(nccl.broadcast(call.in, call.out, call.count * size_bytes(call.dtype),
                                          ncclUint8, call.root, comm, stream),
                           "ncclBroadcast");
    case Collective::kBarrier:
      return group_->check(nccl.all_reduce(barrier_word_.data(), barrier_word_.data(), 1, ncclInt32,
                                           ncclMax, comm, stream),
                           "ncclAllReduce");
    case Collective::kAllToAll:
    case Collective::kGather:
    case Collective::kScatter: return exchange(call, comm, stream);
  }
}

void NcclCommunicator::all_reduce(const CollectiveCall& call, ncclComm_t comm,
                                  cudaStream_t stream) {
  group_->check(group_->nccl().all_reduce(call.in, call.out, call.count, nccl_type(call.dtype),
                                          nccl_operation(call.dtype, call.op), comm, stream),
                "ncclAllReduce");
}

// Parts of different sizes: one reduction to each rank, as one group.
void NcclCommunicator::reduce_scatter(const CollectiveCall& call, ncclComm_t comm,
                                      cudaStream_t stream) {
  const auto& nccl = group_->nccl();
  const auto type = nccl_type(call.dtype);
  const auto operation = nccl_operation(call.dtype, call.op);
  if (call.in_counts.empty())
    return group_->check(
        nccl.reduce_scatter(call.in, call.out, call.count, type, operation, comm, stream),
        "ncclReduceScatter");
  const ExchangeParts parts = parts_of(call, rank(), size());
  group_->grouped([&] {
    for (int r = 0; r < size(); ++r) {
      if (call.in_counts[r] == 0) continue;
      group_->check(nccl.reduce(parts.out[r].data(), r == rank() ? call.out : nullptr,
                                call.in_counts[r], type, operation, r, comm, stream),
                    "ncclReduce");
    }
  });
}

// Parts of different sizes: one broadcast from each rank, as one group.
void NcclCommunicator::all_gather(const CollectiveCall& call, ncclComm_t comm,
                                  cudaStream_t stream) {
  const auto& nccl = group_->nccl();
  if (call.out_counts.empty())
    return group_->check(nccl.all_gather(call.in, call.out, call.count * size_bytes(call.dtype),
                                         ncclUint8, comm, stream),
                         "ncclAllGather");
  const ExchangeParts parts = parts_of(call, rank(), size());
  group_->grouped([&] {
    for (int r = 0; r < size(); ++r) {
      void* part = parts.in[r].data();
      if (parts.in[r].empty()) continue;
      group_->check(nccl.broadcast(r == rank() ? call.in : part, part, parts.in[r].size(),
                                   ncclUint8, r, comm, stream),
                    "ncclBroadcast");
    }
  });
}

void NcclCommunicator::exchange(const CollectiveCall& call, ncclComm_t comm, cudaStream_t stream) {
  const auto& nccl = group_->nccl();
  const ExchangeParts parts = parts_of(call, rank(), size());
  const auto own_out = parts.out[rank()];
  const auto own_in = parts.in[rank()];
  if (!own_in.empty() && own_in.data() != own_out.data())
    check_cuda(group_->cuda(),
               group_->cuda().memcpy_async(own_in.data(), own_out.data(), own_in.size(),
                                           cudaMemcpyDeviceToDevice, stream),
               "cudaMemcpyAsync");
  group_->grouped([&] {
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      if (!parts.out[r].empty())
        group_->check(
            nccl.send(parts.out[r].data(), parts.out[r].size(), ncclUint8, r, comm, stream),
            "ncclSend");
      if (!parts.in[r].empty())
        group_->check(nccl.recv(parts.in[r].data(), parts.in[r].size(), ncclUint8, r, comm, stream),
                      "ncclRecv");
    }
  });
}

void NcclCommunicator::check_peer(const char* what, const void* data, size_t bytes,
                                  int peer) const {
  DST_CHECK(peer >= 0 && peer < size() && peer != rank(), what, ": peer ", peer,
            " is not another rank; there are ranks 0 to ", size() - 1, " and this is ", rank());
  DST_CHECK(data || bytes == 0, what, " of ", bytes, " bytes got a null pointer");
}

void NcclCommunicator::send(const void* data, size_t bytes, int to) {
  check_peer("send", data, bytes, to);
  if (bytes == 0) return;
  group_
      ->enqueue(sign_send(bytes, to),
                [&](ncclComm_t comm, cudaStream_t stream) {
                  group_->check(group_->nccl().send(data, bytes, ncclUint8, to, comm, stream),
                                "ncclSend");
                })
      ->wait();
}

void NcclCommunicator::recv(void* data, size_t bytes, int from) {
  check_peer("recv", data, bytes, from);
  if (bytes == 0) return;
  group_
      ->enqueue(sign_recv(bytes, from),
                [&](ncclComm_t comm, cudaStream_t stream) {
                  group_->check(group_->nccl().recv(data, bytes, ncclUint8, from, comm, stream),
                                "ncclRecv");
                })
      ->wait();
}

std::unique_ptr<Communicator> NcclCommunicator::split(int color, int key) {
  auto part = group_->split(color, key);
  if (!part) return nullptr;
  return std::make_unique<NcclCommunicator>(std::move(part));
}

std::unique_ptr<SharedBuffer> NcclCommunicator::allocate_shared(size_t bytes) {
  return make_registered_buffer(group_, bytes);
}

Survivors NcclCommunicator::shrink() {
  Survivors survivors;
  survivors.communicator = std::make_unique<NcclCommunicator>(group_->shrink(survivors.lost));
  return survivors;
}

std::unique_ptr<Communicator> NcclCommunicator::admit(std::chrono::milliseconds) {
  throw Unavailable(
      "the nccl backend cannot take in another process; admit it to a native communicator and make "
      "a "
      "new one");
}

void NcclCommunicator::abort(const std::string& reason) noexcept { group_->fail(reason); }

std::unique_ptr<Communicator> make_nccl_communicator(const NcclContext& context,
                                                     std::unique_ptr<Communicator> host,
                                                     void* caller_stream) {
  auto group = std::make_shared<NcclGroup>(context, std::move(host), caller_stream);
  group->connect();
  return std::make_unique<NcclCommunicator>(std::move(group));
}

void set_caller_stream(Communicator& communicator, void* stream) {
  auto* nccl = dynamic_cast<NcclCommunicator*>(&communicator);
  DST_CHECK(nccl, "set_caller_stream: a communicator over ", communicator.transport(),
            " knows no streams; wanted one of the nccl backend");
  nccl->set_caller_stream(stream);
}

void make_stream_wait(Work& work, void* stream) {
  const auto* nccl = dynamic_cast<NcclWork*>(&work);
  DST_CHECK(nccl, "make_stream_wait: the work is not one of the nccl backend; use wait()");
  nccl->make_wait(stream);
}

}  // namespace deepseek_train::collectives
