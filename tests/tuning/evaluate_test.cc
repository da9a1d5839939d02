#include "deepseek_train/tuning/evaluate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/rank_threads.h"
#include "tests/support/tiny_llama.h"

namespace deepseek_train::tuning {
namespace {

// 468 of 600, computed apart from Wilson's formula in Python.
TEST(ProportionTest, WilsonInterval) {
  auto [low, high] = Proportion{468, 600}.interval();
  EXPECT_NEAR(low, 0.745130, 1e-5);
  EXPECT_NEAR(high, 0.811307, 1e-5);
  EXPECT_EQ((Proportion{0, 10}).interval().first, 0.0);
  EXPECT_NEAR((Proportion{10, 10}).interval().second, 1.0, 1e-12);
}

constexpr int64_t kVocabSize = 61;

// The windows' mean, token by token, from whole softmaxes.
double naive_perplexity(models::Transformer& model, const std::vector<int32_t>& tokens,
                        size_t context) {
  torch::InferenceMode inference;
  double sum = 0;
  int64_t count = 0;
  for (size_t begin = 0; begin < tokens.size(); begin += context) {
    std::vector<int64_t> window(tokens.begin() + begin,
                                tokens.begin() + std::min(tokens.size(), begin + context));
    auto probabilities =
        model.logits(model.hidden_states(torch::tensor(window).unsqueeze(0))).softmax(-1)[0];
    for (size_t t = 1; t < window.size(); ++t, ++count)
      sum -= std::log(probabilities[static_cast<int64_t>(t) - 1][window[t]].item<double>());
  }
  return std::exp(sum / static_cast<double>(count));
}

TEST(PerplexityTest, EqualsTheNaiveSumOnAnyNumberOfRanks) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < 101; ++i) tokens.push_back((i * 17 + i * i) % kVocabSize);
  models::Transformer reference(test_support::tiny_llama_config(kVocabSize));
  reference.initialize(3);
  const double expected = naive_perplexity(reference, tokens, 25);
  for (int ranks : {1, 2, 3}) {
    test_support::run_ranks(ranks, [&](collectives::Communicator& communicator) {
      models::Transformer model(test_support::tiny_llama_config(kVocabSize));
      model.initialize(3);
      EXPECT_NEAR(perplexity(model, tokens, 25, communicator), expected, 1e-3 * expected);
    });
  }
}

TEST(AgreementTest, CountsEqualAnswersOverAllRanks) {
  test_support::run_ranks(2, [](collectives::Communicator& communicator) {
    Scores a, b;
    a.answers = {"x", "y", "z"};
    b.answers = communicator.rank() == 0 ? a.answers : std::vector<std::string>{"x", "?", "?"};
    auto same = agreement(a, b, communicator);
    EXPECT_EQ(same.successes, 4);
    EXPECT_EQ(same.total, 6);
  });
}

}  // namespace
}  // namespace deepseek_train::tuning
