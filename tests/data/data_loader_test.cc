#include "deepseek_train/data/data_loader.h"

#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include "tests/data/support.h"

namespace deepseek_train::data {
namespace {

using std::chrono::milliseconds;

std::vector<Batch> take(DataLoader& loader, int64_t count = INT64_MAX) {
  std::vector<Batch> batches;
  while (static_cast<int64_t>(batches.size()) < count) {
    auto batch = loader.next();
    if (!batch) break;
    batches.push_back(std::move(*batch));
  }
  return batches;
}

// Throws on document `bad` while it is set, and waits where it is told to.
class FaultyDataset final : public Dataset {
 public:
  explicit FaultyDataset(int64_t count) : documents_(make_documents(count)) {}
  int64_t size() const override { return documents_.size(); }
  Document document(int64_t i) const override {
    ++num_reads;
    DST_CHECK_AS(DataCorruption, i != bad, "document ", i, " is bad");
    if (delay > milliseconds(0)) std::this_thread::sleep_for(delay);
    return documents_.document(i);
  }
  std::atomic<int64_t> bad = -1;
  milliseconds delay{0};
  mutable std::atomic<int64_t> num_reads = 0;

 private:
  MemoryDataset documents_;
};

class DataLoaderTest : public testing::Test {
 protected:
  MemoryDataset dataset_{make_documents(53)};
  DistributedSamplerOptions sharding_{.num_samples = 53, .num_replicas = 2, .rank = 1, .seed = 8};
  DataLoaderOptions options_{.batch_size = 4, .max_length = 30, .pad_id = 2};
};

TEST_F(DataLoaderTest, GivesTheSamplersDocumentsInOrder) {
  DistributedSampler sampler(sharding_), order(sharding_);
  DataLoader loader(dataset_, sampler, options_);
  EXPECT_EQ(loader.size(), 7);
  EXPECT_EQ(loader.remaining(), 7);
  auto batches = take(loader);
  ASSERT_EQ(batches.size(), 7u);
  EXPECT_EQ(batches.back().rows, 3);
  EXPECT_EQ(loader.remaining(), 0);
  for (const Batch& batch : batches) {
    std::vector<Document> documents;
    std::vector<int64_t> samples;
    for (int64_t row = 0; row < batch.rows; ++row) {
      samples.push_back(order.next().value());
      documents.push_back(dataset_.document(samples.back()));
    }
    EXPECT_EQ(batch, collate(documents, samples, 30, 2));
  }
  EXPECT_EQ(order.next(), std::nullopt);
  EXPECT_EQ(loader.next(), std::nullopt);
}

TEST_F(DataLoaderTest, PrefetchChangesNothing) {
  std::vector<Batch> expected;
  for (int prefetch : {1, 2, 50}) {
    DistributedSampler sampler(sharding_);
    options_.prefetch = prefetch;
    DataLoader loader(dataset_, sampler, options_);
    auto batches = take(loader);
    if (expected.empty()) expected = batches;
    EXPECT_EQ(batches, expected);
  }
}

TEST_F(DataLoaderTest, DropLastLeavesTheShortBatchOut) {
  options_.drop_last = true;
  DistributedSampler sampler(sharding_);
  DataLoader loader(dataset_, sampler, options_);
  EXPECT_EQ(loader.size(), 6);
  EXPECT_EQ(take(loader).size(), 6u);
  loader.set_epoch(1);
  EXPECT_EQ(take(loader).size(), 6u);
}

TEST_F(DataLoaderTest, ResumedEqualsUninterruptedAtEveryBatch) {
  std::vector<Batch> expected;
  {
    DistributedSampler sampler(sharding_);
    DataLoader loader(dataset_, sampler, options_);
    for (int64_t epoch : {0, 1}) {
      loader.set_epoch(epoch);
      for (Batch& batch : take(loader)) expected.push_back(std::move(batch));
    }
  }
  for (int64_t cut = 0; cut <= static_cast<int64_t>(expected.size()); ++cut) {
    std::string state;
    {
      DistributedSampler sampler(sharding_);
      DataLoader loader(dataset_, sampler, options_);
      auto first = take(loader, std::min<int64_t>(cut, 7));
      if (cut > 7) {
        loader.set_epoch(1);
        take(loader, cut - 7);
      }
      std::this_thread::sleep_for(milliseconds(1));  // let it read ahead
      state = loader.state_dict();
    }
    DistributedSampler sampler(sharding_);
    DataLoader loader(dataset_, sampler, options_);
    loader.load_state_dict(state);
    std::vector<Batch> rest;
    for (int64_t epoch = sampler.epoch(); epoch < 2; ++epoch) {
      loader.set_epoch(epoch);
      for (Batch& batch : take(loader)) rest.push_back(std::move(batch));
    }
    EXPECT_EQ(rest, std::vector<Batch>(expected.begin() + cut, expected.end())) << "cut at " << cut;
  }
}

TEST_F(DataLoaderTest, TheStateIsWhatWasHandedOutNotWhatWasReadAhead) {
  FaultyDataset dataset(53);
  options_.prefetch = 5;
  DistributedSampler sampler(sharding_);
  DataLoader loader(dataset, sampler, options_);
  loader.next();
  for (int i = 0; i < 2000 && dataset.num_reads < 24; ++i)
    std::this_thread::sleep_for(milliseconds(1));
  EXPECT_GE(dataset.num_reads, 24);  // one batch handed out, five in the queue
  EXPECT_EQ(sampler.position(), 8);
}

TEST_F(DataLoaderTest, ReadsNoFurtherAheadThanAsked) {
  FaultyDataset dataset(53);
  DistributedSampler sampler(sharding_);
  DataLoader loader(dataset, sampler, options_);
  loader.next();
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_LE(dataset.num_reads, 4 * (1 + 2 + 1));  // handed out, in the queue, waiting for room
}

TEST_F(DataLoaderTest, LoadingAStateThrowsAwayWhatWasReadAhead) {
  DistributedSampler sampler(sharding_);
  DataLoader loader(dataset_, sampler, options_);
  const std::string start = loader.state_dict();
  auto first = take(loader, 2);
  loader.load_state_dict(start);
  EXPECT_EQ(take(loader, 2), first);
  sampler.restart();  // behind the loader's back
  EXPECT_EQ(take(loader, 2), first);
}

TEST_F(DataLoaderTest, AnErrorOfTheDatasetComesOutOfNextAndCanBeRetried) {
  FaultyDataset dataset(53);
  DistributedSampler sampler(sharding_), order(sharding_);
  dataset.bad = order.index(9);  // in the third batch
  DataLoader loader(dataset, sampler, options_);
  EXPECT_EQ(take(loader, 2).size(), 2u);
  for (int i = 0; i < 2; ++i) expect_error<DataCorruption>([&] { loader.next(); }, {"is bad"});
  EXPECT_EQ(sampler.position(), 16);
  dataset.bad = -1;
  auto batch = loader.next();
  ASSERT_TRUE(batch);
  EXPECT_EQ(batch->sample_indices[1], order.index(9));
}

TEST_F(DataLoaderTest, AStuckDatasetIsATimeoutNotAHang) {
  FaultyDataset dataset(53);
  dataset.delay = milliseconds(60);
  options_.timeout = milliseconds(10);
  DistributedSampler sampler(sharding_);
  DataLoader loader(dataset, sampler, options_);
  expect_error<Timeout>([&] { loader.next(); }, {"within 10 ms"});
  int64_t rows = 0;
  for (int i = 0; i < 500 && rows == 0; ++i) try {
      rows = loader.next()->rows;  // what was being read is not lost
    } catch (const Timeout&) {
    }
  EXPECT_EQ(rows, 4);
}

TEST_F(DataLoaderTest, TheDestructorEndsAtOnce) {
  FaultyDataset dataset(53);
  dataset.delay = milliseconds(20);
  options_.batch_size = 27;
  DistributedSampler sampler(sharding_);
  auto start = std::chrono::steady_clock::now();
  {
    options_.timeout = milliseconds(1);
    DataLoader loader(dataset, sampler, options_);
    EXPECT_THROW(loader.next(), Timeout);
  }
  // One document, not the batch's 27 (540 ms).
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(400));
}

TEST_F(DataLoaderTest, RefusesBadOptions) {
  DistributedSampler sampler(sharding_), other({.num_samples = 52});
  auto refuse = [&](DataLoaderOptions options, DistributedSampler& with, std::string text) {
    expect_error<InvalidArgument>([&] { DataLoader(dataset_, with, options); }, {text});
  };
  refuse({.batch_size = 0, .max_length = 1}, sampler, "batch_size is 0");
  refuse({.batch_size = 1, .max_length = 0}, sampler, "max_length is 0");
  refuse({.batch_size = 1, .max_length = 1, .prefetch = 0}, sampler, "prefetch is 0");
  refuse({.batch_size = 1, .max_length = 1}, other, "53 documents");
}

}  // namespace
}  // namespace deepseek_train::data
