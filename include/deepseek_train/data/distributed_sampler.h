// Which samples a rank sees, in which order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "deepseek_train/data/permutation.h"

namespace deepseek_train::data {

struct DistributedSamplerOptions {
  int64_t num_samples = 0;
  int num_replicas = 1;
  int rank = 0;
  bool shuffle = true;
  uint64_t seed = 0;
  // What to do when the ranks do not divide the samples: drop the tail, or fill the last round up
  // with samples from the start of the order, so that every rank has the same number (PyTorch's
  // rule, both ways).
  bool drop_last = false;
};

// The share of one rank: places rank, rank + num_replicas, ... of one global order, as
// torch.utils.data's DistributedSampler takes them. Without shuffle the indices equal PyTorch's.
// With shuffle the order is Permutation's (PyTorch's depends on its version), and is the same for
// every number of ranks: the samples that all ranks have taken together are always a prefix of it.
// That is why a state saved on four ranks goes on with three, and nothing is lost or seen twice.
// Costs no memory per sample. One thread at a time; copies are independent.
class DistributedSampler {
 public:
  // InvalidArgument unless num_samples >= 1 and 0 <= rank < num_replicas.
  explicit DistributedSampler(const DistributedSamplerOptions& options);

  // Samples of this rank in a whole epoch, equal on every rank. 0 if drop_last and there are fewer
  // samples than ranks.
  int64_t size() const { return rounds_from(0); }
  // The rank's k-th sample of the whole epoch, 0 <= k < size(); moves nothing.
  int64_t index(int64_t k) const;

  // The next sample; nullopt at the end of the epoch, until set_epoch or restart.
  std::optional<int64_t> next();
  // Counts `count` samples of this rank as taken.
  void skip(int64_t count);
  // Samples that next() has still to give in this epoch.
  int64_t remaining() const { return rounds_from(start_) - taken_; }

  // Begins another epoch at its first sample. The current epoch keeps its position, so that a loop
  // which calls set_epoch at the head of every epoch also works after load_state_dict; restart()
  // begins it again.
  void set_epoch(int64_t epoch);
  void restart();
  int64_t epoch() const { return epoch_; }
  // Samples that all ranks together have taken in this epoch, if they are in step.
  int64_t position() const { return start_ + taken_ * options_.num_replicas; }
  const DistributedSamplerOptions& options() const { return options_; }

  // The position as JSON: {"version", "epoch", "position", "num_samples", "seed", "shuffle"}. The
  // same on every rank, and of use at any number of ranks.
  std::string state_dict() const;
  // InvalidArgument if the state is of other data (num_samples, seed, shuffle) or another version
  // of the order; DataCorruption if it is no such JSON. Nothing changes then.
  void load_state_dict(std::string_view json);

 private:
  // Samples of each rank from global place `start` to the end of the epoch.
  int64_t rounds_from(int64_t start) const;
  int64_t sample_at(int64_t place) const;

  DistributedSamplerOptions options_;
  Permutation order_;
  int64_t epoch_ = 0;
  int64_t start_ = 0;  // global place where this number of ranks took over
  int64_t taken_ = 0;  // samples of this rank since then
};

}  // namespace deepseek_train::data
