#include "deepseek_train/training/distributed_data_parallel.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "deepseek_train/training/losses.h"
#include "tests/support/rank_threads.h"
#include "tests/training/tiny_lm.h"

namespace deepseek_train::training {
namespace {

using collectives::Communicator;
using test_support::run_ranks;

constexpr int64_t kSamples = 24;

data::Batch batch_of(const data::Dataset& dataset, const std::vector<int64_t>& samples) {
  std::vector<data::Document> documents;
  for (int64_t i : samples) documents.push_back(dataset.document(i));
  return data::collate(documents, samples, /*max_length=*/64, /*pad_id=*/0);
}

std::vector<torch::Tensor> gradients_of(TinyLm& model) {
  std::vector<torch::Tensor> gradients;
  for (const auto& parameter : model.parameters()) gradients.push_back(parameter.grad().clone());
  return gradients;
}

// All samples in one batch on one rank, divided by all tokens: what every other way must give.
std::vector<torch::Tensor> whole_batch_gradients(int64_t& tokens) {
  auto dataset = tiny_dataset(kSamples);
  std::vector<int64_t> all(kSamples);
  std::iota(all.begin(), all.end(), 0);
  auto batch = batch_of(dataset, all);
  tokens = batch.num_loss_tokens();
  TinyLm model(1);
  (cross_entropy_sum(model, batch) / static_cast<double>(tokens)).backward();
  return gradients_of(model);
}

void expect_close(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_LT((a[i] - b[i]).abs().max().item<float>(), 1e-6) << "parameter " << i;
}

// Ranks and accumulation divide the same samples differently; the gradient must not notice.
TEST(DistributedDataParallelTest, RanksAndAccumulationDoNotChangeTheGradient) {
  int64_t tokens = 0;
  const auto expected = whole_batch_gradients(tokens);
  for (int ranks : {1, 2, 3, 4}) {
    for (int64_t accumulation : {1, 2, 4}) {
      run_ranks(ranks, [&](Communicator& communicator) {
        auto dataset = tiny_dataset(kSamples);
        TinyLm model(/*seed=*/1 +
                     static_cast<uint64_t>(communicator.rank()));  // rank 0's weights count
        DistributedDataParallel ddp(model, communicator, {.bucket_bytes = 512});
        ddp.zero_grad();
        for (int64_t micro = 0; micro < accumulation; ++micro) {
          std::vector<int64_t> mine;
          for (int64_t i = communicator.rank(); i < kSamples; i += ranks)
            if (i / ranks % accumulation == micro) mine.push_back(i);
          ddp.set_sync(micro + 1 == accumulation);
          (cross_entropy_sum(model, batch_of(dataset, mine)) / static_cast<double>(tokens))
              .backward();
        }
        ddp.wait();
        expect_close(gradients_of(model), expected);
      });
    }
  }
}

TEST(DistributedDataParallelTest, AllRanksHoldTheSameBits) {
  std::vector<std::vector<torch::Tensor>> gradients(3);
  run_ranks(3, [&](Communicator& communicator) {
    auto dataset = tiny_dataset(kSamples);
    TinyLm model(1);
    DistributedDataParallel ddp(model, communicator);
    ddp.zero_grad();
    cross_entropy_sum(model, batch_of(dataset, {communicator.rank(), communicator.rank() + 5}))
        .backward();
    ddp.wait();
    gradients[static_cast<size_t>(communicator.rank())] = gradients_of(model);
  });
  for (size_t rank = 1; rank < 3; ++rank)
    for (size_t i = 0; i < gradients[0].size(); ++i)
      EXPECT_TRUE(torch::equal(gradients[0][i], gradients[rank][i]));
}

TEST(DistributedDataParallelTest, AnUnusedParameterGetsZero) {
  run_ranks(2, [](Communicator& communicator) {
    TinyLm model(1);
    DistributedDataParallel ddp(model, communicator, {.bucket_bytes = 64});
    ddp.zero_grad();
    model.named_parameters()["embedding"].sum().backward();
    ddp.wait();
    EXPECT_EQ(model.named_parameters()["head"].grad().abs().max().item<float>(), 0.0f);
    EXPECT_EQ(model.named_parameters()["embedding"].grad().min().item<float>(), 2.0f);
  });
}

TEST(DistributedDataParallelTest, DifferentModelsAreRefusedByEveryRank) {
  auto errors = test_support::errors_of_ranks(2, [](Communicator& communicator) {
    TinyLm model(1, communicator.rank() == 0 ? 12 : 14);
    DistributedDataParallel ddp(model, communicator);
  });
  for (const auto& error : errors) EXPECT_NE(error.find("same model"), std::string::npos) << error;
}

}  // namespace
}  // namespace deepseek_train::training
