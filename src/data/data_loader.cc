#include "deepseek_train/data/data_loader.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "deepseek_train/core/error.h"

namespace deepseek_train::data {

// A thread that reads batches into a bounded queue, from a sampler of its own to the end of the
// epoch.
class DataLoader::Prefetcher {
 public:
  Prefetcher(const Dataset& dataset, const DistributedSampler& sampler,
             const DataLoaderOptions& options)
      : dataset_(dataset), sampler_(sampler), options_(options), thread_([this] { run(); }) {}

  ~Prefetcher() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  std::optional<Batch> pop() {
    std::unique_lock lock(mutex_);
    bool arrived =
        changed_.wait_for(lock, options_.timeout, [this] { return !queue_.empty() || finished_; });
    DST_CHECK_AS(
        Timeout, arrived, "the data thread read no batch within ", options_.timeout.count(),
        " ms; look at the storage that holds the token store, or raise the loader's timeout");
    if (queue_.empty()) {
      if (error_) std::rethrow_exception(error_);
      return std::nullopt;
    }
    Batch batch = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    changed_.notify_all();
    return batch;
  }

  // Nothing more will come into the queue.
  bool finished() {
    std::lock_guard lock(mutex_);
    return finished_;
  }

 private:
  void run() {
    std::exception_ptr error;
    try {
      while (auto batch = read_batch())
        if (!push(std::move(*batch))) return;
    } catch (...) {
      error = std::current_exception();
    }
    std::lock_guard lock(mutex_);
    error_ = error;
    finished_ = true;
    changed_.notify_all();
  }

  // nullopt at the end of the epoch, or when the loader goes away.
  std::optional<Batch> read_batch() {
    std::vector<Document> documents;
    std::vector<int64_t> samples;
    while (static_cast<int64_t>(samples.size()) < options_.batch_size && !stopping()) {
      auto sample = sampler_.next();
      if (!sample) break;
      documents.push_back(dataset_.document(*sample));
      samples.push_back(*sample);
    }
    auto rows = static_cast<int64_t>(samples.size());
    if (rows == 0 || (options_.drop_last && rows < options_.batch_size)) return std::nullopt;
    return collate(documents, samples, options_.max_length, options_.pad_id);
  }

  // Waits for room without a limit of its own: the destructor ends the wait. False if it did.
  bool push(Batch batch) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] {
      return stopping_ || queue_.size() < static_cast<size_t>(options_.prefetch);
    });
    if (stopping_) return false;
    queue_.push_back(std::move(batch));
    lock.unlock();
    changed_.notify_all();
    return true;
  }

  bool stopping() {
    std::lock_guard lock(mutex_);
    return stopping_;
  }

  const Dataset& dataset_;
  DistributedSampler sampler_;
  const DataLoaderOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch> queue_;   // guarded by mutex_, as all below
  std::exception_ptr error_;  // thrown after the queue has run empty
  bool finished_ = false;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses all the others
};

DataLoader::DataLoader(const Dataset& dataset, DistributedSampler& sampler,
                       const DataLoaderOptions& options)
    : dataset_(dataset), sampler_(sampler), options_(options) {
  DST_CHECK(options.batch_size >= 1, "batch_size is ", options.batch_size, ", wanted at least 1");
  DST_CHECK(options.max_length >= 1, "max_length is ", options.max_length, ", wanted at least 1");
  DST_CHECK(options.prefetch >= 1, "prefetch is ", options.prefetch, ", wanted at least 1");
  DST_CHECK(dataset.size() == sampler.options().num_samples, "the data set has ", dataset.size(),
            " documents, the sampler was made for ", sampler.options().num_samples,
            "; give the sampler the set's size() as num_samples");
}

DataLoader::~DataLoader() = default;

// Throws away what was read ahead if the sampler is not where the last batch left it.
void DataLoader::follow_sampler() {
  if (prefetcher_ && epoch_ == sampler_.epoch() && position_ == sampler_.position()) return;
  prefetcher_ = nullptr;
  prefetcher_ = std::make_unique<Prefetcher>(dataset_, sampler_, options_);
  epoch_ = sampler_.epoch();
  position_ = sampler_.position();
}

std::optional<Batch> DataLoader::next() {
  follow_sampler();
  std::optional<Batch> batch;
  try {
    batch = prefetcher_->pop();
  } catch (...) {
    // After a time-out the thread may still deliver; after an error the next call starts a new one,
    // behind the last batch that was handed out.
    if (prefetcher_->finished()) prefetcher_ = nullptr;
    throw;
  }
  if (!batch) return std::nullopt;
  sampler_.skip(batch->rows);
  position_ = sampler_.position();
  return batch;
}

int64_t DataLoader::batches_of(int64_t num_samples) const {
  int64_t rounded_up = options_.drop_last ? 0 : options_.batch_size - 1;
  return (num_samples + rounded_up) / options_.batch_size;
}

int64_t DataLoader::remaining() const { return batches_of(sampler_.remaining()); }

int64_t DataLoader::size() const { return batches_of(sampler_.size()); }

}  // namespace deepseek_train::data
