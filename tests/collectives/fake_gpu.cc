// The NCCL half of the model.
#include "tests/collectives/fake_gpu.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "collectives/algorithms/tree_reduce.h"
#include "tests/collectives/fake_cuda.h"

namespace deepseek_train::collectives::testing {
namespace {

enum class Kind { kAllReduce, kReduce, kReduceScatter, kAllGather, kBroadcast };

struct Operation {
  Kind kind;
  const std::byte* in;
  std::byte* out;
  size_t count;
  ncclDataType_t type;
  ncclRedOp_t op = ncclSum;
  int root = 0;
};

DType dtype_of(ncclDataType_t type) {
  switch (type) {
    case ncclFloat32: return DType::kFloat32;
    case ncclFloat64: return DType::kFloat64;
    case ncclFloat16: return DType::kFloat16;
    case ncclBfloat16: return DType::kBFloat16;
    case ncclInt32: return DType::kInt32;
    case ncclInt64: return DType::kInt64;
    case ncclInt8: return DType::kInt8;
    default: return DType::kUInt8;
  }
}

ReduceOp op_of(ncclRedOp_t op) {
  if (op == ncclProd) return ReduceOp::kProd;
  if (op == ncclMax) return ReduceOp::kMax;
  if (op == ncclMin) return ReduceOp::kMin;
  return op == ncclAvg ? ReduceOp::kAvg : ReduceOp::kSum;
}

// What all ranks' operations do together.
void perform(const std::vector<Operation>& all) {
  const Operation& first = all[0];
  const size_t bytes = first.count * size_bytes(dtype_of(first.type));
  const auto reduce = [&](size_t offset, std::vector<std::byte*> to) {
    std::vector<const std::byte*> from;
    for (const auto& operation : all) from.push_back(operation.in + offset);
    tree_reduce(dtype_of(first.type), op_of(first.op), from, to, first.count);
  };
  std::vector<std::byte*> outs;
  for (const auto& operation : all) outs.push_back(operation.out);
  switch (first.kind) {
    case Kind::kAllReduce: return reduce(0, outs);
    case Kind::kReduce: return reduce(0, {outs[first.root]});
    case Kind::kReduceScatter:
      for (size_t r = 0; r < all.size(); ++r) reduce(r * bytes, {outs[r]});
      return;
    case Kind::kAllGather:
      for (size_t r = 0; r < all.size(); ++r)
        for (auto* out : outs) std::memmove(out + r * bytes, all[r].in, bytes);
      return;
    case Kind::kBroadcast:
      for (auto* out : outs) std::memmove(out, all[first.root].in, bytes);
      return;
  }
}

struct Meeting {
  std::vector<Operation> operations;
  size_t num_arrived = 0;
  bool is_done = false;
  bool is_broken = false;  // a rank was stopped; its memory may be gone
};

struct FakeComm;

// A rank that wants a new group.
struct Applicant {
  FakeComm* parent;
  int color;
  int key;
  ncclComm_t* result;
};

// What the ranks of one group share.
struct Hub {
  std::mutex mutex;
  std::condition_variable changed;
  int size = 0;
  int num_joined = 0;
  std::map<uint64_t, Meeting> meetings;
  std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> mail;  // from, to
  std::vector<Applicant> applicants;
};

struct FakeComm {
  std::shared_ptr<Hub> hub;
  int rank = 0;
  std::atomic<bool> is_stopped = false;
  std::atomic<bool> is_applying = false;  // split or shrink under way
  std::atomic<uint64_t> num_operations = 0;
};
using CommPointer = std::shared_ptr<FakeComm>;

CommPointer& comm_of(ncclComm_t comm) { return *reinterpret_cast<CommPointer*>(comm); }

ncclComm_t new_comm(std::shared_ptr<Hub> hub, int rank) {
  auto comm = std::make_shared<FakeComm>();
  comm->hub = std::move(hub);
  comm->rank = rank;
  ++fake_gpu_state().num_comms;
  return reinterpret_cast<ncclComm_t>(new CommPointer(std::move(comm)));
}

void delete_comm(ncclComm_t comm) {
  --fake_gpu_state().num_comms;
  delete &comm_of(comm);
}

template <typename Condition>
bool wait_in(FakeComm& comm, std::unique_lock<std::mutex>& lock, const Condition& condition) {
  while (!condition()) {
    if (comm.is_stopped) return false;
    comm.hub->changed.wait_for(lock, std::chrono::milliseconds(1));
  }
  return true;
}

void meet(const CommPointer& comm, uint64_t number, const Operation& operation) {
  std::unique_lock lock(comm->hub->mutex);
  Hub& hub = *comm->hub;
  Meeting& meeting = hub.meetings[number];
  meeting.operations.resize(hub.size);
  meeting.operations[comm->rank] = operation;
  if (++meeting.num_arrived == static_cast<size_t>(hub.size) && !meeting.is_broken) {
    perform(meeting.operations);
    meeting.is_done = true;
    hub.changed.notify_all();
  }
  if (!wait_in(*comm, lock, [&] { return meeting.is_done; })) meeting.is_broken = true;
}

// Between group start and end, a thread's operations wait here: sends go first.
struct Group {
  int depth = 0;
  std::vector<std::function<void()>> sends;
  std::vector<std::function<void()>> others;
};
Group& group() {
  thread_local Group group;
  return group;
}

void enter_group() { ++group().depth; }
void leave_group() {
  if (--group().depth > 0) return;
  for (auto* list : {&group().sends, &group().others}) {
    for (auto& launch : *list) launch();
    list->clear();
  }
}

ncclResult_t launch(ncclComm_t handle, cudaStream_t stream, const Operation& operation) {
  enter_group();
  group().others.push_back([comm = comm_of(handle), stream, operation] {
    const uint64_t number = ++comm->num_operations;
    push(stream, [=] { meet(comm, number, operation); });
  });
  leave_group();
  return ncclInProgress;  // as the non-blocking mode may
}

Operation operation_of(Kind kind, const void* in, void* out, size_t count, ncclDataType_t type,
                       ncclRedOp_t op = ncclSum, int root = 0) {
  return {kind, static_cast<const std::byte*>(in), static_cast<std::byte*>(out), count, type, op,
          root};
}

ncclResult_t send(const void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t handle,
                  cudaStream_t stream) {
  const auto* bytes = static_cast<const std::byte*>(data);
  const size_t size = count * size_bytes(dtype_of(type));
  enter_group();
  group().sends.push_back([=, comm = comm_of(handle)] {
    push(stream, [=] {
      std::lock_guard lock(comm->hub->mutex);
      comm->hub->mail[{comm->rank, peer}].emplace_back(bytes, bytes + size);
      comm->hub->changed.notify_all();
    });
  });
  leave_group();
  return ncclSuccess;
}

ncclResult_t recv(void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t handle,
                  cudaStream_t stream) {
  const size_t size = count * size_bytes(dtype_of(type));
  enter_group();
  group().others.push_back([=, comm = comm_of(handle)] {
    push(stream, [=] {
      std::unique_lock lock(comm->hub->mutex);
      auto& letters = comm->hub->mail[{peer, comm->rank}];
      const auto has_mail = [&] { return !letters.empty() && letters.front().size() == size; };
      if (!wait_in(*comm, lock, has_mail)) return;
      std::memcpy(data, letters.front().data(), size);
      letters.pop_front();
    });
  });
  leave_group();
  return ncclSuccess;
}

// By the text of its id; a group lives as long as its ranks.
ncclResult_t join(ncclComm_t* comm, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<Hub>> hubs;
  if (config->blocking != 0) return ncclInvalidUsage;
  std::lock_guard lock(mutex);
  auto hub = hubs[id.internal].lock();
  if (!hub) {
    hubs[id.internal] = hub = std::make_shared<Hub>();
    hub->size = size;
  }
  *comm = new_comm(hub, rank);
  std::lock_guard hub_lock(hub->mutex);
  ++hub->num_joined;
  return ncclInProgress;
}

// The last of `wanted` applicants makes the groups; handles appear then.
ncclResult_t apply(ncclComm_t handle, int color, int key, ncclComm_t* result, int wanted) {
  FakeComm& comm = *comm_of(handle);
  comm.is_applying = true;
  std::lock_guard lock(comm.hub->mutex);
  auto& applicants = comm.hub->applicants;
  applicants.push_back({&comm, color, key, result});
  if (static_cast<int>(applicants.size()) < wanted) return ncclInProgress;
  std::sort(applicants.begin(), applicants.end(), [](const Applicant& a, const Applicant& b) {
    return std::tie(a.color, a.key, a.parent->rank) < std::tie(b.color, b.key, b.parent->rank);
  });
  std::map<int, std::vector<Applicant>> groups;
  for (const auto& applicant : applicants) groups[applicant.color].push_back(applicant);
  for (const auto& [group_color, members] : groups) {
    auto hub = std::make_shared<Hub>();
    hub->size = hub->num_joined = static_cast<int>(members.size());
    for (int r = 0; r < hub->size && group_color >= 0; ++r)
      std::atomic_ref<ncclComm_t>(*members[r].result).store(new_comm(hub, r));
  }
  for (const auto& applicant : applicants) applicant.parent->is_applying = false;
  applicants.clear();
  return ncclSuccess;
}

ncclResult_t state_of(ncclComm_t handle, ncclResult_t* state) {
  const FakeComm& comm = *comm_of(handle);
  std::lock_guard lock(comm.hub->mutex);
  *state = fake_gpu_state().next_async_error.exchange(ncclSuccess);
  if (*state == ncclSuccess && (comm.hub->num_joined < comm.hub->size || comm.is_applying))
    *state = ncclInProgress;
  return ncclSuccess;
}

void fill_operations(NcclApi& api) {
  api.all_reduce = [](const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op,
                      ncclComm_t comm, cudaStream_t stream) {
    return launch(comm, stream, operation_of(Kind::kAllReduce, in, out, count, type, op));
  };
  api.reduce = [](const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op,
                  int root, ncclComm_t comm, cudaStream_t stream) {
    return launch(comm, stream, operation_of(Kind::kReduce, in, out, count, type, op, root));
  };
  api.reduce_scatter = [](const void* in, void* out, size_t count, ncclDataType_t type,
                          ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    return launch(comm, stream, operation_of(Kind::kReduceScatter, in, out, count, type, op));
  };
  api.all_gather = [](const void* in, void* out, size_t count, ncclDataType_t type, ncclComm_t comm,
                      cudaStream_t stream) {
    return launch(comm, stream, operation_of(Kind::kAllGather, in, out, count, type));
  };
  api.broadcast = [](const void* in, void* out, size_t count, ncclDataType_t type, int root,
                     ncclComm_t comm, cudaStream_t stream) {
    return launch(comm, stream,
                  operation_of(Kind::kBroadcast, in, out, count, type, ncclSum, root));
  };
  api.send = send;
  api.recv = recv;
  api.group_start = [] { return enter_group(), ncclSuccess; };
  api.group_end = [] { return leave_group(), ncclInProgress; };
}

void fill_groups(NcclApi& api, bool has_revoke) {
  api.get_unique_id = [](ncclUniqueId* id) {
    static std::atomic<int> number = 0;
    const auto text = std::to_string(++number);
    std::memcpy(id->internal, text.c_str(), text.size() + 1);
    return ncclSuccess;
  };
  api.comm_init_rank_config = join;
  api.comm_split = [](ncclComm_t comm, int color, int key, ncclComm_t* result, ncclConfig_t*) {
    return apply(comm, color, key, result, comm_of(comm)->hub->size);
  };
  api.comm_shrink = [](ncclComm_t comm, int*, int num_lost, ncclComm_t* result, ncclConfig_t*,
                       int) {
    return apply(comm, 0, comm_of(comm)->rank, result, comm_of(comm)->hub->size - num_lost);
  };
  if (has_revoke)
    api.comm_revoke = [](ncclComm_t comm, int) {
      return comm_of(comm)->is_stopped = true, ncclInProgress;
    };
  api.comm_get_async_error = state_of;
  api.comm_finalize = [](ncclComm_t) { return ncclSuccess; };
  api.comm_destroy = [](ncclComm_t comm) {
    ++fake_gpu_state().num_finalized;
    return delete_comm(comm), ncclSuccess;
  };
  api.comm_abort = [](ncclComm_t comm) {
    ++fake_gpu_state().num_aborted;
    comm_of(comm)->is_stopped = true;
    return delete_comm(comm), ncclSuccess;
  };
}

}  // namespace

FakeGpuState& fake_gpu_state() {
  static FakeGpuState state;
  return state;
}

GpuApiPointer fake_gpu_api(bool has_revoke) {
  GpuApi api;
  api.cuda = fake_cuda_api();
  fill_operations(api.nccl);
  fill_groups(api.nccl, has_revoke);
  api.nccl.get_error_string = [](ncclResult_t) { return "an error of the model"; };
  api.nccl.get_last_error = [](ncclComm_t) { return "no more is known"; };
  api.nccl.comm_register = [](const ncclComm_t, void* data, size_t, void** handle) {
    ++fake_gpu_state().num_registered;
    return *handle = data, ncclSuccess;
  };
  api.nccl.comm_deregister = [](const ncclComm_t, void*) {
    return --fake_gpu_state().num_registered, ncclSuccess;
  };
  api.nccl.mem_alloc = [](void** data, size_t bytes) {
    return *data = std::malloc(bytes), ncclSuccess;
  };
  api.nccl.mem_free = [](void* data) { return std::free(data), ncclSuccess; };
  return std::make_shared<const GpuApi>(api);
}

}  // namespace deepseek_train::collectives::testing
