// A model whose experts are shared out over 2 and 4 ranks against the same model on one.
#include <gtest/gtest.h>

#include <mutex>

#include "deepseek_train/core/error.h"
#include "deepseek_train/models/checkpoint.h"
#include "src/models/mixture_of_experts.h"
#include "tests/support/rank_threads.h"
#include "tests/support/tiny_deepseek.h"

namespace deepseek_train::models {
namespace {

using collectives::Communicator;
using test_support::initialize_widely;
using test_support::run_ranks;
using test_support::tiny_deepseek_config;

constexpr double kTolerance = 1e-5;  // relative to the largest value

void expect_near(const torch::Tensor& a, const torch::Tensor& b, const std::string& what) {
  ASSERT_EQ(a.sizes(), b.sizes()) << what;
  if (a.numel() == 0) return;
  const auto largest = b.abs().max().item<double>() + 1e-12;
  EXPECT_LE((a - b).abs().max().item<double>(), kTolerance * largest) << what;
}

// A checkpoint in memory that remembers what was read.
class MemoryCheckpoint final : public Checkpoint {
 public:
  explicit MemoryCheckpoint(const Transformer& model) : config_(model.config()) {
    for (const auto& [name, tensor] : named_weights(model, at::kFloat)) tensors_[name] = tensor;
  }
  const std::string& path() const override { return path_; }
  const ModelConfig& config() const override { return config_; }
  const text::Tokenizer& tokenizer() const override { throw Internal("no tokenizer"); }
  const std::string& quantization_config() const override { return none_; }
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }
  torch::Tensor tensor(const std::string& name) const override {
    read.insert(name);
    return tensors_.at(name);
  }
  mutable std::set<std::string> read;

 private:
  std::string path_ = "memory", none_;
  ModelConfig config_;
  std::map<std::string, torch::Tensor> tensors_;
};

// Sequences [first, last) of each rank, and what is special about the routing.
struct Shares {
  std::vector<int64_t> sequences;
  bool starve_an_expert = false;
};

class ExpertParallelTest : public testing::TestWithParam<Shares> {};

// One loss, whatever part of the batch it sees: sums of tokens, not means.
torch::Tensor loss_of(Transformer& model, const torch::Tensor& hidden) {
  return model.logits(hidden).sin().sum();
}

TEST_P(ExpertParallelTest, OutputsAndGradientsEqualOneRanks) {
  const auto& shares = GetParam();
  const auto config = tiny_deepseek_config(23);
  Transformer whole(config);
  initialize_widely(whole, 1);
  if (shares.starve_an_expert) {
    torch::NoGradGuard no_grad;
    for (const auto& buffer : whole.named_buffers()) buffer.value()[5] = -100;
  }
  int64_t total = 0;
  for (auto share : shares.sequences) total += share;
  auto ids =
      torch::randint(0, 23, {total, 7}, at::detail::createCPUGenerator(2), torch::dtype(at::kLong));
  RoutingRecord routing;
  auto expected = whole.hidden_states(ids, &routing);
  EXPECT_EQ(routing.loads.at(1)[5].item<int64_t>() == 0, shares.starve_an_expert);
  loss_of(whole, expected).backward();

  const auto n = static_cast<int>(shares.sequences.size());
  std::mutex mutex;
  std::map<std::string, torch::Tensor> sums;  // gradients of what every rank holds
  run_ranks(n, [&](Communicator& ranks) {
    std::vector<int64_t> begin(static_cast<size_t>(n) + 1);
    for (int r = 0; r < n; ++r) begin[r + 1] = begin[r] + shares.sequences[r];
    Transformer model(config, {}, torch::kCPU, &ranks);
    load_weights(model, MemoryCheckpoint(whole));
    auto mine = ids.slice(0, begin[ranks.rank()], begin[ranks.rank() + 1]);
    auto hidden = model.hidden_states(mine);
    expect_near(hidden, expected.slice(0, begin[ranks.rank()], begin[ranks.rank() + 1]),
                concat("rank ", ranks.rank()));
    loss_of(model, hidden).backward();
    std::lock_guard lock(mutex);
    auto reference = whole.named_parameters();
    for (const auto& item : model.named_parameters()) {
      auto gradient = item.value().grad();
      if (!gradient.defined()) continue;  // of the multi-token prediction layer
      if (item.key().find(".mlp.experts.") != std::string::npos) {
        expect_near(gradient, reference[item.key()].grad(), item.key());
      } else {
        auto& sum = sums[item.key()];
        sum = sum.defined() ? sum + gradient : gradient.clone();
      }
    }
  });
  EXPECT_FALSE(sums.empty());
  for (const auto& [name, sum] : sums)
    expect_near(sum, whole.named_parameters()[name].grad(), name);
}

INSTANTIATE_TEST_SUITE_P(Ranks, ExpertParallelTest,
                         testing::Values(Shares{{4}}, Shares{{2, 2}}, Shares{{3, 1}},
                                         Shares{{1, 1, 1, 1}}, Shares{{2, 0, 1, 3}}, Shares{{0, 3}},
                                         Shares{{2, 2}, true}, Shares{{1, 0, 2, 1}, true}),
                         [](const auto& info) {
                           std::string name = "Sequences";
                           for (auto share : info.param.sequences)
                             name += concat("_", share);
                           return name + (info.param.starve_an_expert ? "_OneExpertStarved" : "");
                         });

// The rows of an expert come in the order of ranks: the matrix is the one of a single rank.
TEST(ExpertExchangeTest, AnExpertSeesTheSameRowsInTheSameOrder) {
  for (int n : {1, 2, 4}) {
    run_ranks(n, [&](Communicator& ranks) {
      // Rank r has r + e rows for expert e of 4, numbered r * 100 + e * 10 + i.
      std::vector<int64_t> counts;
      std::vector<float> mine, wanted;
      for (int e = 0; e < 4; ++e) counts.push_back(ranks.rank() + e);
      for (int e = 0; e < 4; ++e)
        for (int i = 0; i < counts[static_cast<size_t>(e)]; ++i)
          mine.push_back(static_cast<float>(ranks.rank() * 100 + e * 10 + i));
      const auto [first, last] = expert_shard(&ranks, 4);
      for (auto e = first; e < last; ++e)
        for (int r = 0; r < n; ++r)
          for (int i = 0; i < r + e; ++i)
            wanted.push_back(static_cast<float>(r * 100 + e * 10 + i));
      auto rows = torch::tensor(mine).unsqueeze(1).requires_grad_();
      ExpertExchange exchange(ranks, counts, torch::kCPU);
      auto received = exchange.hand_out(rows);
      EXPECT_TRUE(torch::equal(received.flatten(), torch::tensor(wanted)));
      auto back = exchange.give_back(received * received);
      EXPECT_TRUE(torch::equal(back, rows * rows));
      back.sum().backward();
      EXPECT_TRUE(torch::equal(rows.grad(), 2 * rows));
    });
  }
}

TEST(ExpertLoadingTest, EachRankReadsItsExpertsOnly) {
  const auto config = tiny_deepseek_config(23);
  Transformer whole(config);
  initialize_widely(whole, 1);
  run_ranks(4, [&](Communicator& ranks) {
    Transformer model(config, {}, torch::kCPU, &ranks);
    MemoryCheckpoint checkpoint(whole);
    load_weights(model, checkpoint);
    const auto [first, last] = model.local_experts();
    EXPECT_EQ(last - first, 2);
    for (int64_t expert = 0; expert < 8; ++expert)
      EXPECT_EQ(checkpoint.read.contains(
                    concat("model.layers.1.mlp.experts.", expert, ".up_proj.weight")),
                expert >= first && expert < last);
    EXPECT_THROW(named_weights(model, at::kFloat), InvalidArgument);
  });
}

TEST(ExpertLoadingTest, RanksThatDoNotDivideTheExpertsAreRefused) {
  run_ranks(3, [](Communicator& ranks) {
    EXPECT_THROW(Transformer(tiny_deepseek_config(23), {}, torch::kCPU, &ranks), InvalidArgument);
  });
}

}  // namespace
}  // namespace deepseek_train::models
