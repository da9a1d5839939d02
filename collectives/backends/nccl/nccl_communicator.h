// The NCCL backend: calls of the interface as NCCL's operations.
#pragma once

#include "collectives/backends/nccl/nccl_group.h"
#include "deepseek_train/collectives/nccl.h"

namespace deepseek_train::collectives {

class NcclCommunicator : public Communicator {
 public:
  // The group is connected.
  explicit NcclCommunicator(std::shared_ptr<NcclGroup> group);
  ~NcclCommunicator() override;

  int rank() const override { return group_->host().rank(); }
  int size() const override { return group_->host().size(); }
  std::chrono::milliseconds timeout() const override { return group_->host().timeout(); }
  std::string transport() const override { return "nccl"; }

  void send(const void* data, size_t bytes, int to) override;
  void recv(void* data, size_t bytes, int from) override;
  std::unique_ptr<Communicator> split(int color, int key) override;
  std::unique_ptr<SharedBuffer> allocate_shared(size_t bytes) override;
  Survivors shrink() override;
  std::unique_ptr<Communicator> admit(std::chrono::milliseconds patience) override;
  void abort(const std::string& reason) noexcept override;

  void set_caller_stream(void* stream) { group_->set_caller_stream(stream); }

 protected:
  void execute(const CollectiveCall& call) override;
  std::shared_ptr<Work> submit(std::vector<CollectiveCall> calls) override;

 private:
  void issue(const CollectiveCall& call, ncclComm_t comm, cudaStream_t stream);
  void all_reduce(const CollectiveCall& call, ncclComm_t comm, cudaStream_t stream);
  void reduce_scatter(const CollectiveCall& call, ncclComm_t comm, cudaStream_t stream);
  void all_gather(const CollectiveCall& call, ncclComm_t comm, cudaStream_t stream);
  void exchange(const CollectiveCall& call, ncclComm_t comm, cudaStream_t stream);
  void check_peer(const char* what, const void* data, size_t bytes, int peer) const;

  const std::shared_ptr<NcclGroup> group_;
  const DeviceMemory barrier_word_;
  const int num_exceptions_;  // under way when this was made
};

// The test's way in: any libraries, any host group. Collective.
std::unique_ptr<Communicator> make_nccl_communicator(const NcclContext& context,
                                                     std::unique_ptr<Communicator> host,
                                                     void* caller_stream);

}  // namespace deepseek_train::collectives
