// What the other ranks of a GPU group are doing, and whether they still live: a pulse over the
// native backend, which finds dead and frozen ranks where NCCL would wait.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "collectives/transport/call_signature.h"
#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::collectives {

// A thread that exchanges with the other ranks' pulses, every 20 ms, what this rank calls. Its
// group is used by nothing else. All methods are thread-safe.
class RankPulse {
 public:
  explicit RankPulse(std::unique_ptr<Communicator> group);
  // Without close() first, the others' pulses fail.
  ~RankPulse();
  RankPulse(const RankPulse&) = delete;
  RankPulse& operator=(const RankPulse&) = delete;

  // The call this rank is now in, or made last.
  void set_current(const CallSignature& call);
  // Why the group has ended; none while it is well.
  std::optional<std::string> failure() const;
  // Every other pulse fails with this reason.
  void announce_failure(const std::string& reason) noexcept;
  // Says that this rank is done, and waits until all are. False: they were not in time, or failed.
  bool close(std::chrono::milliseconds patience);

  // "rank 1 made another call: all_reduce #3 (...)" if it did so under this call's number.
  std::optional<std::string> disagreement(const CallSignature& call) const;
  // "rank 0: all_reduce #12 (...) at train.cc:40; rank 1: ...", for messages.
  std::string describe_ranks() const;

 private:
  struct Beat {
    uint8_t is_closing = 0;
    CallSignature current;
  };
  void beat();
  bool exchange_beats();

  const std::unique_ptr<Communicator> group_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Beat own_;
  std::vector<Beat> all_;
  std::optional<std::string> failure_;
  bool is_stopping_ = false;
  bool has_ended_ = false;
  std::thread thread_;  // last: everything else is there when it starts
};

}  // namespace deepseek_train::collectives
