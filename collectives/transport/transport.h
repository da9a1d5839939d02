// How the native backend moves bytes: one object per group and rank.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::collectives {

class Transport;

// See Communicator::shrink.
struct SurvivingTransport {
  std::unique_ptr<Transport> transport;
  std::vector<int> lost;
  Survivors::Interrupted interrupted = Survivors::Interrupted::kNone;
};

// One part of an exchange for, or from, each rank; parts may be empty.
using OutgoingParts = std::span<const std::span<const std::byte>>;
using IncomingParts = std::span<const std::span<std::byte>>;

// Runs one call at a time, on the calling thread, and waits no longer than its timeout without
// progress. Only abort() may be called from another thread. After an error the group has ended; see
// Communicator.
class Transport {
 public:
  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string_view name() const = 0;

  // all_reduce, reduce_scatter, all_gather, broadcast and barrier with equal parts.
  virtual void run(const CollectiveCall& call) = 0;
  // Everything else: out[r] goes to rank r, in[s] comes from rank s, one's own part is copied.
  // Throws InvalidArgument, naming both ranks and sizes, if a sender and its receiver disagree about
  // the size of a part, or if ranks made different calls; `call` is only for that comparison.
  virtual void exchange(const CollectiveCall& call, OutgoingParts out, IncomingParts in) = 0;
  virtual void send(std::span<const std::byte> bytes, int to) = 0;
  virtual void recv(std::span<std::byte> bytes, int from) = 0;
  // `group` is a text that only the new group's members share; `members` are the old ranks in their
  // new order and contain this rank. Collective among the members.
  virtual std::unique_ptr<Transport> make_subgroup(const std::string& group,
                                                   const std::vector<int>& members) = 0;
  // After an error ended the group. `group` as above.
  virtual SurvivingTransport shrink(const std::string& group) = 0;
  virtual std::unique_ptr<SharedBuffer> allocate_shared(size_t bytes) = 0;
  virtual void abort(std::string_view reason) noexcept = 0;
};

}  // namespace deepseek_train::collectives
