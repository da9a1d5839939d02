// Collectives through one host's memory.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "collectives/choice_log.h"
#include "collectives/transport/shm/arena.h"
#include "collectives/transport/shm/group.h"
#include "collectives/transport/shm/journal.h"
#include "collectives/transport/shm/peer_memory.h"
#include "collectives/transport/shm/shrink_agreement.h"
#include "collectives/transport/shm/way_tuner.h"
#include "collectives/transport/transport.h"

namespace deepseek_train::collectives {

// How private memory is reduced: through staging slots, or by reading it in its owner's process,
// which the kernel must permit to all ranks (else it is staged).
enum class PrivateWay { kFastest, kStaged, kRead };

struct ShmTransportOptions {
  std::string group;  // a text that only this group's members share
  int rank = 0;
  int size = 1;
  std::chrono::milliseconds timeout{60'000};
  // See CommunicatorOptions.
  bool recoverable = false;
  PrivateWay private_way = PrivateWay::kFastest;
  // Smaller private buffers are staged: a step less, and no page to look up.
  size_t min_read_bytes = size_t{1} << 20;
  bool traces_choices = false;
  // For fault tests.
  JournalProbe probe = nullptr;
};

// Private buffers pass through staging slots in chunks, every rank filling its slot, then reading
// everybody's; large ones are read from their owner directly where that is faster. Arena buffers
// are reduced where they lie. Either way a reduction of an element is one tree_reduce over the
// ranks' values.
class ShmTransport final : public Transport {
 public:
  explicit ShmTransport(const ShmTransportOptions& options);
  // Over a segment in which all ranks stand already: lets tests put all ranks on one mapping.
  ShmTransport(const ShmTransportOptions& options, Mapping segment);

  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  std::string_view name() const override { return "shm"; }

  void run(const CollectiveCall& call) override;
  void exchange(const CollectiveCall& call, OutgoingParts out, IncomingParts in) override;
  void send(std::span<const std::byte> bytes, int to) override;
  void recv(std::span<std::byte> bytes, int from) override;
  std::unique_ptr<Transport> make_subgroup(const std::string& group,
                                           const std::vector<int>& members) override;
  // The survivors keep their arenas: buffers from allocate_shared are reduced in place in the new
  // group too. A rank that was only stopped and goes on later may still copy the one block of an
  // arena (8 KiB of sums) that it was at; before it writes another it finds itself left behind. End
  // such a process (errors give its pid), or do not use the old arena again. Which ranks are left
  // is agreed on through the segment, so `group` is not needed.
  SurvivingTransport shrink(const std::string& group) override;
  std::unique_ptr<SharedBuffer> allocate_shared(size_t bytes) override;
  void abort(std::string_view reason) noexcept override { group_.fail(reason); }

 private:
  // A group of some of the ranks: what the whole group found out holds for it too.
  ShmTransport(const ShmTransportOptions& options, std::span<const ProcessId> members,
               const ShmTransport& whole);

  // The call under which the group ended.
  struct Pending {
    CollectiveCall call;
    uint64_t sequence = 0;
  };

  // Runs the body; an error of this rank's own ends the group for the others too.
  template <typename Body>
  void guarded(const Body& body);
  template <typename Body>
  void guarded_call(const CollectiveCall& call, const Body& body);

  void dispatch(const CollectiveCall& call);
  void barrier(const CollectiveCall& call);
  void all_reduce(const CollectiveCall& call);
  // For shrink(), if options.recoverable.
  void keep_input(const CollectiveCall& call);
  void stage_chunk(const CollectiveCall& call, size_t j);
  void all_reduce_staged(const CollectiveCall& call);
  void all_reduce_by_reading(const CollectiveCall& call);
  void all_reduce_in_arena(const CollectiveCall& call, const ArenaLocation& location);
  void reduce_slice_in_arena(const CollectiveCall& call, const ArenaLocation& location,
                             uint64_t sequence, int owner, uint32_t round);
  void reduce_scatter(const CollectiveCall& call);
  void all_gather(const CollectiveCall& call);
  void broadcast(const CollectiveCall& call);
  void exchange_parts(const CollectiveCall& call, OutgoingParts out, IncomingParts in);

  bool will_read(size_t bytes) const;
  bool is_tuned(size_t bytes) const;
  WayTuner& tuner_of(size_t bytes) { return tuners_[WayTuner::size_class_of(bytes)]; }

  // Shows this rank's call to the others and takes the step that opens it.
  void open_call(const CollectiveCall& call, const ArenaLocation& location);
  // Waits for everybody's opening step and throws InvalidArgument if a rank opened another call.
  // True if all are seen to be alike even in the place of their data; else ask call_of().
  bool await_same_call();
  bool are_all_in_my_arena() const;
  bool is_any_in_an_arena() const;

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
  // Every rank's slot at an offset; valid until the next use of sources_.
  std::span<const std::byte* const> slots_at(size_t chunk, size_t offset_bytes);

  // Of a shrink, see shrink.cc.
  struct Settlement {
    Survivors::Interrupted outcome = Survivors::Interrupted::kNone;
    bool must_redo = false;     // in the new group
    bool must_restore = false;  // the input before that
  };
  void publish_departure();
  Settlement settle(const Verdict& verdict, uint32_t round);
  bool are_all_calls_the_same() const;
  void finish_in_arena(const Verdict& verdict, uint32_t round);
  std::unique_ptr<ShmTransport> make_successor(const Verdict& verdict, uint32_t round);
  SurvivingTransport conclude(std::unique_ptr<ShmTransport> successor, const Verdict& verdict,
                              const Settlement& settlement);

  const ShmTransportOptions options_;
  ShmGroup group_;
  PeerMemory peers_;
  WayTuner tuners_[kNumSizeClasses] = {WayTuner(0), WayTuner(1)};
  ArenaRegistry arenas_;
  uint64_t sequence_ = 0;
  uint64_t num_completed_ = 0;
  uint32_t digest_ = 0;
  bool are_alike_ = false;  // what await_same_call() last gave
  uint32_t open_step_ = 0;
  uint64_t next_chunk_ = 0;
  uint32_t last_arena_ = 0;
  CallSignature signature_;
  std::optional<Pending> pending_;
  ChoiceLog choices_{options_.traces_choices};
  bool is_input_kept_ = false;
  bool has_shrunk_ = false;
  std::vector<std::byte> kept_input_;
  std::vector<std::byte> scratch_;
  std::vector<const std::byte*> sources_;  // room for one a rank
  std::vector<std::byte*> buffers_;
};

}  // namespace deepseek_train::collectives
