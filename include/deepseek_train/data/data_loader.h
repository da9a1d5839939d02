// Batches of a dataset in a sampler's order, read ahead by a thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "deepseek_train/data/batch.h"
#include "deepseek_train/data/dataset.h"
#include "deepseek_train/data/distributed_sampler.h"

namespace deepseek_train::data {

struct DataLoaderOptions {
  int64_t batch_size = 1;  // rows per batch of this rank
  int64_t max_length = 0;  // tokens; longer documents are cut to their first max_length
  uint32_t pad_id = 0;
  int prefetch = 2;  // batches ready ahead of next(), >= 1
  // Leave out the epoch's last batch where it has fewer rows than batch_size.
  bool drop_last = false;
  // How long next() waits for the reading thread before it throws Timeout.
  std::chrono::milliseconds timeout = std::chrono::minutes(5);
};

// Batches depend on dataset, sampler and options alone, never on timing. Borrows the dataset and
// the sampler, which must outlive it. The sampler moves as batches are handed out, not as they are
// read ahead, so its state says what the caller has seen; a sampler that was moved from outside is
// noticed, and what was read ahead thrown away. One thread at a time.
class DataLoader {
 public:
  // InvalidArgument on options out of range or where dataset and sampler disagree about the number
  // of samples.
  DataLoader(const Dataset& dataset, DistributedSampler& sampler, const DataLoaderOptions& options);
  // Stops the thread; waits for the one document it may be reading.
  ~DataLoader();
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  // The next batch; nullopt at the end of the epoch, until set_epoch. Rethrows what the dataset
  // threw.
  std::optional<Batch> next();
  // Batches that next() has still to give in this epoch.
  int64_t remaining() const;
  // Batches of a whole epoch.
  int64_t size() const;

  // As the sampler's.
  void set_epoch(int64_t epoch) { sampler_.set_epoch(epoch); }
  std::string state_dict() const { return sampler_.state_dict(); }
  void load_state_dict(std::string_view json) { sampler_.load_state_dict(json); }

 private:
  class Prefetcher;
  int64_t batches_of(int64_t num_samples) const;
  void follow_sampler();

  const Dataset& dataset_;
  DistributedSampler& sampler_;
  DataLoaderOptions options_;
  std::unique_ptr<Prefetcher> prefetcher_;  // made by the first next() of a run of batches
  int64_t epoch_ = 0;                       // where prefetcher_ expects the sampler to be
  int64_t position_ = 0;
};

}  // namespace deepseek_train::data
