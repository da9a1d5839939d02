// Collectives through one host's memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "collectives/transport/shm/arena.h"
#include "collectives/transport/shm/group.h"
#include "collectives/transport/transport.h"

namespace deepseek_train::collectives {

// Private buffers pass through staging slots in chunks: every rank fills its slot, then reads
// everybody's. Arena buffers are reduced where they lie. Either way a reduction of an element is
// one tree_reduce over the ranks' values.
class ShmTransport : public Transport {
 public:
  ShmTransport(const std::string& job_id, int rank, int size, std::chrono::milliseconds timeout);

  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  std::string_view name() const override { return "shm"; }

  void run(const CollectiveCall& call) override;
  void exchange(const CollectiveCall& call, OutgoingParts out, IncomingParts in) override;
  void send(std::span<const std::byte> bytes, int to) override;
  void recv(std::span<std::byte> bytes, int from) override;
  std::unique_ptr<Transport> make_subgroup(const std::string& group,
                                           const std::vector<int>& members) override;
  SurvivingTransport shrink(const std::string& group) override;
  std::unique_ptr<SharedBuffer> allocate_shared(size_t bytes) override;
  void abort(std::string_view reason) noexcept override { group_.fail(reason); }

 private:
  // Runs the body; an error of this rank's own ends the group for the others too.
  template <typename Body>
  void guarded(const Body& body);

  void dispatch(const CollectiveCall& call);
  void barrier(const CollectiveCall& call);
  void all_reduce(const CollectiveCall& call);
  void all_reduce_staged(const CollectiveCall& call);
  void all_reduce_in_arena(const CollectiveCall& call, const ArenaLocation& location);
  void reduce_scatter(const CollectiveCall& call);
  void all_gather(const CollectiveCall& call);
  void broadcast(const CollectiveCall& call);

  // Shows this rank's call to the others and takes the step that opens it.
  void open_call(const CollectiveCall& call, const ArenaLocation& location);
  // Waits for everybody's opening step and throws InvalidArgument if a rank opened another call.
  void await_same_call();
  const CallSignature& call_of(int rank) const;

  // Runs a call in chunks: fill(j) writes chunk j to this rank's slot, drain(j) reads what all have
  // written. One chunk is filled ahead, so that waiting for the slowest rank overlaps with copying.
  template <typename Fill, typename Drain>
  void run_in_chunks(const CollectiveCall& call, size_t num_chunks, const Fill& fill,
                     const Drain& drain);
  // The same, once the call is open and all ranks' chunk 0 is filled.
  template <typename Fill, typename Drain>
  void drain_chunks(size_t num_chunks, const Fill& fill, const Drain& drain);
  std::byte* slot(int rank, size_t chunk) const {
    return group_.layout().slot(rank, next_chunk_ + chunk);
  }
  std::vector<const std::byte*> slots_at(size_t chunk, size_t offset_bytes) const;

  ShmGroup group_;
  ArenaRegistry arenas_;
  uint64_t sequence_ = 0;
  uint32_t open_step_ = 0;
  uint64_t next_chunk_ = 0;
  uint32_t last_arena_ = 0;
};

}  // namespace deepseek_train::collectives
