#include "src/models/mixture_of_experts.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "tests/support/tiny_deepseek.h"

namespace deepseek_train::models {
namespace {

using test_support::initialize_widely;
using test_support::tiny_deepseek_config;

torch::Tensor random_ids(int64_t rows, int64_t columns, uint64_t seed) {
  return torch::randint(0, 23, {rows, columns}, at::detail::createCPUGenerator(seed),
                        torch::dtype(at::kLong));
}

struct RandomRouting {
  RandomRouting() {
    auto generator = at::detail::createCPUGenerator(3);
    scores = torch::rand({B * T, X}, generator, torch::dtype(at::kDouble));
    experts = std::get<1>(scores.topk(C, -1));
  }
  static constexpr int64_t B = 3, T = 5, X = 6, C = 2;
  torch::Tensor scores, experts;
  // The second sequence has two tokens, the third is padding alone.
  torch::Tensor counted = torch::tensor({5, 2, 0}).unsqueeze(1) > torch::arange(T);
};

torch::Tensor loss_of(const RandomRouting& routing, const torch::Tensor& scores) {
  return sequence_balance_loss(scores, routing.counted,
                               sequence_loads(routing.experts, routing.counted, RandomRouting::X));
}

TEST(BalanceLossTest, EqualsTheFormula) {
  using R = RandomRouting;
  R routing;
  double expected = 0;
  const int64_t lengths[] = {5, 2, 0};
  for (int64_t b = 0; b < 2; ++b) {
    const auto length = static_cast<double>(lengths[b]);
    for (int64_t x = 0; x < R::X; ++x) {
      double count = 0, share = 0;
      for (int64_t t = 0; t < lengths[b]; ++t) {
        auto row = routing.scores[b * R::T + t];
        share += row[x].item<double>() / row.sum().item<double>() / length;
        for (int64_t c = 0; c < R::C; ++c)
          count += routing.experts[b * R::T + t][c].item<int64_t>() == x;
      }
      expected += R::X / (R::C * length) * count * share;
    }
  }
  EXPECT_NEAR(loss_of(routing, routing.scores).item<double>(), expected, 1e-12);
}

TEST(BalanceLossTest, ItsGradientIsTheDifferenceQuotient) {
  RandomRouting routing;
  auto scores = routing.scores.clone().requires_grad_();
  loss_of(routing, scores).backward();
  constexpr double kStep = 1e-6;
  for (int64_t i = 0; i < scores.numel(); ++i) {
    auto above = routing.scores.clone(), below = routing.scores.clone();
    above.view(-1)[i] += kStep;
    below.view(-1)[i] -= kStep;
    const auto quotient = (loss_of(routing, above) - loss_of(routing, below)) / (2 * kStep);
    EXPECT_NEAR(scores.grad().view(-1)[i].item<double>(), quotient.item<double>(), 1e-8);
  }
}

class MixtureTest : public testing::Test {
 protected:
  MixtureTest() { initialize_widely(model_, 1); }
  torch::Tensor bias(int64_t layer) {
    return model_
        .named_buffers()[concat("model.layers.", layer, ".mlp.gate.e_score_correction_bias")];
  }
  Transformer model_{tiny_deepseek_config(23)};
};

// NVIDIA-NeMo/Automodel #1408: the loss was computed and its gradient lost.
TEST_F(MixtureTest, TheBalanceLossReachesTheRouter) {
  RoutingRecord routing;
  model_.hidden_states(random_ids(2, 9, 1), &routing);
  ASSERT_EQ(routing.balance_losses.size(), 2u);
  routing.balance_losses.at(2).backward();
  auto gradient = model_.named_parameters()["model.layers.2.mlp.gate.weight"].grad();
  ASSERT_TRUE(gradient.defined());
  EXPECT_GT(gradient.abs().max().item<double>(), 1e-6);
  auto expert = model_.named_parameters()["model.layers.2.mlp.experts.0.up_proj.weight"].grad();
  EXPECT_FALSE(expert.defined());  // the choice alone makes this loss
}

TEST_F(MixtureTest, PaddingCountsNeitherInLoadsNorInLosses) {
  torch::InferenceMode inference;
  auto ids = random_ids(2, 9, 1);
  auto padded = at::constant_pad_nd(ids, {0, 6}, 0);
  RoutingRecord alone, with_padding;
  with_padding.counted = (torch::arange(15) < 9).expand({2, 15});
  auto hidden = model_.hidden_states(ids, &alone);
  auto hidden_padded = model_.hidden_states(padded, &with_padding);
  model_.mtp_hidden_states(0, hidden, ids, &alone);
  model_.mtp_hidden_states(0, hidden_padded, padded, &with_padding);
  ASSERT_EQ(alone.loads.size(), 3u);  // two layers and the one for multi-token prediction
  for (const auto& [layer, load] : alone.loads) {
    EXPECT_TRUE(torch::equal(load, with_padding.loads.at(layer))) << "layer " << layer;
    EXPECT_EQ(load.sum().item<int64_t>(), 2 * (layer == 3 ? 8 : 9) * 3);
    EXPECT_NEAR(alone.balance_losses.at(layer).item<double>(),
                with_padding.balance_losses.at(layer).item<double>(), 1e-5);
  }
}

TEST_F(MixtureTest, ARepeatedForwardPassCountsOnce) {
  RoutingRecord routing;
  auto ids = random_ids(2, 9, 1);
  model_.hidden_states(ids, &routing);
  auto once = routing.loads.at(1).clone();
  model_.hidden_states(ids, &routing);
  EXPECT_TRUE(torch::equal(routing.loads.at(1), once));
}

TEST_F(MixtureTest, TheBiasRuleMovesAgainstTheLoad) {
  auto load = torch::tensor({4, 0, 2, 2, 2, 2, 2, 2});  // mean 2
  auto before = bias(1).clone(), untouched = bias(2).clone();
  model_.balance_experts({{1, load}, {3, load}}, 0.5);
  auto expected = torch::zeros({8});
  expected[0] = -0.5;
  expected[1] = 0.5;
  EXPECT_TRUE(torch::equal(bias(1) - before, expected));
  EXPECT_TRUE(torch::equal(bias(3), expected));
  EXPECT_TRUE(torch::equal(bias(2), untouched));
  EXPECT_THROW(model_.balance_experts({{0, load}}, 0.5), InvalidArgument);
}

TEST_F(MixtureTest, GammaZeroLeavesTheBiasBitByBit) {
  bias(1).copy_(torch::tensor({-0.f, 1e-30f, 3.f, -1.f, 0.f, 0.1f, 7.f, -9.f}));
  auto before = bias(1).view(at::kInt).clone();
  model_.balance_experts({{1, torch::arange(8)}}, 0);
  EXPECT_TRUE(torch::equal(bias(1).view(at::kInt), before));
}

// The experts' products at once against one module after another.
TEST_F(MixtureTest, GroupedExpertsEqualSingleOnes) {
  auto config = model_.config();
  for (int64_t tokens : {1, 3, 200}) {
    for (auto dtype : {at::kFloat, at::kBFloat16}) {
      MixtureOfExperts block({config, 1});
      for (auto& item : block.named_parameters())
        item.value().set_data(model_.named_parameters()[concat("model.layers.1.mlp.", item.key())]);
      std::map<std::string, torch::Tensor> wanted;
      auto random = at::detail::createCPUGenerator(4);
      auto start = torch::randn({1, tokens, 16}, random, torch::TensorOptions()).to(dtype);
      // The same for both, so that a last bit of the output does not come back many times larger.
      auto gradient = torch::randn({1, tokens, 16}, random, torch::TensorOptions()).to(dtype);
      for (auto numerics : {Numerics::kReference, Numerics::kFast}) {
        auto hidden = start.clone().requires_grad_();
        ForwardContext context;
        context.numerics = numerics;
        block.zero_grad();
        auto out = block.forward(hidden, context);
        out.backward(gradient);
        std::map<std::string, torch::Tensor> found = {{"output", out}, {"input", hidden.grad()}};
        for (auto& item : block.named_parameters()) {
          ASSERT_TRUE(item.value().grad().defined()) << item.key();  // of idle experts too
          found[item.key()] = item.value().grad();
        }
        if (numerics == Numerics::kReference) {
          wanted = found;
          continue;
        }
        const double tolerance = dtype == at::kFloat ? 1e-5 : 0.02;
        for (const auto& [name, value] : wanted)
          EXPECT_LE((found[name] - value).abs().max().item<double>(),
                    tolerance * (value.abs().max().item<double>() + 1e-9))
              << name << ", " << tokens << " tokens, " << dtype;
      }
    }
  }
}

// A method of another kind on one expert, as quantization and adapters set it, is not passed over.
TEST_F(MixtureTest, OtherLinearMethodsAreUsed) {
  class Zero final : public ops::LinearMethod {
    torch::Tensor apply(const torch::Tensor& input, const torch::Tensor& weight,
                        const torch::Tensor&) override {
      return input.new_zeros({input.size(0), weight.size(0)});
    }
    std::string name() const override { return "zero"; }
  };
  auto block = std::make_shared<MixtureOfExperts>(BlockSite{model_.config(), 1});
  for (auto& parameter : block->parameters()) parameter.data().fill_(0.1);
  auto hidden = torch::ones({1, 2, 16});
  EXPECT_GT(block->forward(hidden, {}).abs().min().item<double>(), 0);
  for (const auto& module : block->named_modules())
    if (auto* linear = module.value()->as<ops::Linear>();
        linear && module.key().ends_with("down_proj"))
      linear->set_method(std::make_shared<Zero>());
  EXPECT_EQ(block->forward(hidden, {}).abs().max().item<double>(), 0);
}

// One matrix each for embedding and output projection, whoever uses them.
TEST_F(MixtureTest, TheMtpLossReachesTheSharedEmbeddingAndHead) {
  auto ids = random_ids(2, 9, 1);
  auto hidden = model_.hidden_states(ids).detach();
  model_.logits(model_.mtp_hidden_states(0, hidden, ids)).square().mean().backward();
  for (const char* name :
       {"model.embed_tokens.weight", "lm_head.weight", "model.layers.3.eh_proj.weight",
        "model.layers.3.enorm.weight", "model.layers.3.mlp.gate.weight"}) {
    auto gradient = model_.named_parameters()[name].grad();
    ASSERT_TRUE(gradient.defined()) << name;
    EXPECT_GT(gradient.abs().max().item<double>(), 0) << name;
  }
  EXPECT_FALSE(model_.named_parameters()["model.norm.weight"].grad().defined());
}

}  // namespace
}  // namespace deepseek_train::models
