// The native backend: a transport, and a queue that keeps the order of calls.
#pragma once

#include <memory>

#include "collectives/backends/native/work_queue.h"
#include "collectives/call_recorder.h"
#include "collectives/transport/transport.h"
#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::collectives {

class NativeCommunicator : public Communicator {
 public:
  // `group` names this group among all of the launch; sub-groups add to it. Of the options only
  // timeout, metrics and trace are used.
  NativeCommunicator(std::unique_ptr<Transport> transport, std::string group,
                     const CommunicatorOptions& options);
  ~NativeCommunicator() override;

  int rank() const override { return transport_->rank(); }
  int size() const override { return transport_->size(); }
  std::chrono::milliseconds timeout() const override { return options_.timeout; }
  std::string transport() const override { return std::string(transport_->name()); }

  void send(const void* data, size_t bytes, int to) override;
  void recv(void* data, size_t bytes, int from) override;
  std::unique_ptr<Communicator> split(int color, int key) override;
  std::unique_ptr<SharedBuffer> allocate_shared(size_t bytes) override;
  Survivors shrink() override;
  std::unique_ptr<Communicator> admit(std::chrono::milliseconds patience) override;
  void abort(const std::string& reason) noexcept override;

 protected:
  void execute(const CollectiveCall& call) override;
  std::shared_ptr<Work> submit(std::vector<CollectiveCall> calls) override;

 private:
  void perform(const CollectiveCall& call);
  void dispatch(const CollectiveCall& call);
  void check_peer(const char* what, const void* data, size_t bytes, int peer) const;

  const std::unique_ptr<Transport> transport_;
  const std::string group_;
  const CommunicatorOptions options_;
  CallRecorder recorder_;
  int num_splits_ = 0;
  std::vector<std::byte> scratch_;
  WorkQueue queue_;  // last: stops before the transport goes
};

// The transport that the options ask for, of the group options.launch.job_id.
std::unique_ptr<Transport> make_transport(const CommunicatorOptions& options);
std::unique_ptr<Communicator> make_native_communicator(const CommunicatorOptions& options);

}  // namespace deepseek_train::collectives
