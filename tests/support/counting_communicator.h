// Counts what a rank would send over a network.
#pragma once

#include <memory>
#include <numeric>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::test_support {

// Hands every call on to another communicator, which it borrows, and adds up the bytes that this
// rank gives to the others: in direct exchange for all_to_all and all_gather, 2(n-1)/n of the
// buffer for all_reduce. Other calls count nothing.
class CountingCommunicator : public collectives::Communicator {
 public:
  explicit CountingCommunicator(Communicator& inner) : inner_(inner) {}
  size_t bytes_sent() const { return bytes_sent_; }

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::chrono::milliseconds timeout() const override { return inner_.timeout(); }
  std::string transport() const override { return inner_.transport(); }
  void send(const void* data, size_t bytes, int to) override { inner_.send(data, bytes, to); }
  void recv(void* data, size_t bytes, int from) override { inner_.recv(data, bytes, from); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    return inner_.split(color, key);
  }
  std::unique_ptr<collectives::SharedBuffer> allocate_shared(size_t bytes) override {
    return inner_.allocate_shared(bytes);
  }
  collectives::Survivors shrink() override { return inner_.shrink(); }
  std::unique_ptr<collectives::Communicator> admit(std::chrono::milliseconds patience) override {
    return inner_.admit(patience);
  }
  void abort(const std::string& reason) noexcept override { inner_.abort(reason); }

 protected:
  void execute(const collectives::CollectiveCall& call) override {
    count(call);
    inner_.run(call);
  }
  std::shared_ptr<collectives::Work> submit(
      std::vector<collectives::CollectiveCall> calls) override {
    for (const auto& call : calls) count(call);
    return inner_.start_group(std::move(calls));
  }

 private:
  void count(const collectives::CollectiveCall& call) {
    using collectives::Collective;
    const size_t others = size() - 1;
    size_t elements = 0;
    if (call.kind == Collective::kAllReduce) elements = 2 * others * call.count / size();
    if (call.kind == Collective::kAllGather) elements = others * call.count;
    if (call.kind == Collective::kAllToAll && call.in_counts.empty())
      elements = others * call.count;
    if (call.kind == Collective::kAllToAll && !call.in_counts.empty())
      elements = std::accumulate(call.in_counts.begin(), call.in_counts.end(), size_t{0}) -
                 call.in_counts[rank()];
    bytes_sent_ += elements * size_bytes(call.dtype);
  }

  Communicator& inner_;
  size_t bytes_sent_ = 0;
};

}  // namespace deepseek_train::test_support
