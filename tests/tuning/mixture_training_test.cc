// Training of a mixture of experts with the library's own trainer: balance, biases, multi-token
// prediction, and that ranks and accumulation change nothing.
#include <gtest/gtest.h>
#include <unistd.h>

#include "deepseek_train/core/error.h"
#include "deepseek_train/training/trainer.h"
#include "src/training/auxiliary_losses.h"
#include "src/tuning/mixture_settings.h"
#include "src/tuning/trained_model.h"
#include "tests/support/rank_threads.h"
#include "tests/support/tiny_deepseek.h"
#include "tests/training/tiny_lm.h"

namespace deepseek_train::tuning {
namespace {

using collectives::Communicator;
using test_support::run_ranks;
using test_support::tiny_deepseek_config;

class Recorder final : public MetricsSink {
 public:
  void record(int64_t, const MetricValues& values) override {
    steps.emplace_back(values.begin(), values.end());
  }
  std::vector<std::map<std::string, double>> steps;
};

// One rank's trainer with everything it borrows.
struct MixtureRun {
  MixtureRun(Communicator& communicator, const training::TrainerOptions& options)
      : model(tiny_deepseek_config(training::kTinyVocabulary)),
        dataset(training::tiny_dataset(53)),
        sampler({.num_samples = dataset.size(),
                 .num_replicas = communicator.size(),
                 .rank = communicator.rank(),
                 .seed = 3}),
        loader(dataset, sampler, {.batch_size = 2, .max_length = 64}) {
    test_support::initialize_widely(model, 1);
    if (options.mtp_loss_weight == 0) freeze_mtp_layers(model);
    trainer = std::make_unique<training::Trainer>(
        training::TrainerParts{trained, loader, communicator, posix_env(), metrics}, options);
  }

  std::map<std::string, torch::Tensor> state() const {
    std::map<std::string, torch::Tensor> state;
    for (const auto& item : model.named_parameters())
      state[item.key()] = item.value().detach().clone();
    for (const auto& item : model.named_buffers()) state[item.key()] = item.value().clone();
    return state;
  }

  models::Transformer model;
  TrainedModel trained{model};
  data::MemoryDataset dataset;
  data::DistributedSampler sampler;
  data::DataLoader loader;
  Recorder metrics;
  std::unique_ptr<training::Trainer> trainer;
};

class MixtureTrainingTest : public testing::Test {
 protected:
  MixtureTrainingTest() : folder_(join_path(testing::TempDir(), concat("dst_moe_", ::getpid()))) {}
  ~MixtureTrainingTest() override { posix_env().remove_all(folder_); }

  training::TrainerOptions options(int64_t accumulation = 2) const {
    training::TrainerOptions options;
    options.output_dir = folder_;
    options.max_steps = 6;
    options.gradient_accumulation_steps = accumulation;
    options.schedule = {.peak = 1e-3, .warmup_steps = 1, .decay_steps = 6};
    options.router_aux_loss_coef = 0.01;
    options.bias_update_speed = 0.01;
    options.mtp_loss_weight = 0.3;
    return options;
  }
  // Rank 0's model and telemetry after the run.
  std::pair<std::map<std::string, torch::Tensor>, Recorder> run(
      int ranks, const training::TrainerOptions& options) {
    std::pair<std::map<std::string, torch::Tensor>, Recorder> result;
    run_ranks(ranks, [&](Communicator& communicator) {
      MixtureRun run(communicator, options);
      run.trainer->run_until(options.max_steps);
      if (communicator.rank() == 0) result = {run.state(), run.metrics};
    });
    return result;
  }

  std::string folder_;
};

bool is_bias(const std::string& name) { return name.ends_with("e_score_correction_bias"); }

TEST_F(MixtureTrainingTest, RanksAndAccumulationChangeNothing) {
  auto [expected, telemetry] = run(1, options(4));
  for (int ranks : {2, 4}) {
    auto [found, others] = run(ranks, options(4 / ranks));
    for (const auto& [name, value] : expected) {
      if (is_bias(name)) {
        EXPECT_TRUE(torch::equal(found.at(name), value)) << name;  // counts are exact
      } else {
        EXPECT_LE((found.at(name) - value).abs().max().item<double>(), 1e-4) << name;
      }
    }
    for (size_t i = 0; i < telemetry.steps.size(); ++i)
      for (const auto& [name, value] : telemetry.steps[i]) {
        if (name == "tokens_per_second") continue;
        EXPECT_NEAR(others.steps[i].at(name), value, 1e-3 * std::abs(value)) << name;
      }
  }
}

TEST_F(MixtureTrainingTest, TelemetryHasTheLoadOfEachLayer) {
  auto [state, telemetry] = run(1, options());
  for (const auto& step : telemetry.steps) {
    for (const char* name : {"max_over_mean_load/layer_1", "max_over_mean_load/layer_2",
                             "max_over_mean_load/layer_3", "balance_loss", "mtp_loss"})
      ASSERT_TRUE(step.contains(name)) << name;
    EXPECT_GE(step.at("max_over_mean_load/layer_1"), 1);
    EXPECT_LE(step.at("max_over_mean_load/layer_1"), 8.0 / 3);  // one expert gets every token
    EXPECT_FALSE(step.contains("max_over_mean_load/layer_0"));
  }
}

TEST_F(MixtureTrainingTest, GammaZeroLeavesTheBiasesBitByBit) {
  auto frozen = options();
  frozen.bias_update_speed = 0;
  auto [still, unused] = run(1, frozen);
  auto [moved, unused2] = run(1, options());
  int64_t biases = 0;
  for (const auto& [name, value] : still) {
    if (!is_bias(name)) continue;
    ++biases;
    EXPECT_TRUE(torch::equal(value.view(at::kInt), torch::zeros({8}, at::kInt))) << name;
    EXPECT_FALSE(torch::equal(moved.at(name), value)) << name;
  }
  EXPECT_EQ(biases, 3);
}

TEST_F(MixtureTrainingTest, BiasesSurviveAResume) {
  auto [expected, unused] = run(1, options());
  run_ranks(1, [&](Communicator& communicator) {
    MixtureRun first(communicator, options());
    first.trainer->run_until(3);
    first.trainer->save();
  });
  run_ranks(1, [&](Communicator& communicator) {
    MixtureRun second(communicator, options());
    ASSERT_TRUE(second.trainer->resume());
    second.trainer->run_until(6);
    for (const auto& [name, value] : second.state())
      EXPECT_TRUE(torch::equal(value, expected.at(name))) << name;
  });
}

TEST_F(MixtureTrainingTest, WithoutItsLossTheMtpLayerStaysAsItIs) {
  auto without = options();
  without.mtp_loss_weight = 0;
  auto [still, telemetry] = run(1, without);
  auto [trained, unused] = run(1, options());
  EXPECT_FALSE(telemetry.steps.front().contains("mtp_loss"));
  models::Transformer start(tiny_deepseek_config(training::kTinyVocabulary));
  test_support::initialize_widely(start, 1);
  for (const auto& item : start.named_parameters()) {
    if (!item.key().starts_with("model.layers.3.")) continue;
    EXPECT_TRUE(torch::equal(still.at(item.key()), item.value())) << item.key();
    EXPECT_FALSE(torch::equal(trained.at(item.key()), item.value())) << item.key();
  }
}

// The term that a step adds, against its definition, token by token.
TEST_F(MixtureTrainingTest, TheAuxiliaryTermEqualsItsDefinition) {
  models::Transformer model(tiny_deepseek_config(training::kTinyVocabulary));
  test_support::initialize_widely(model, 1);
  TrainedModel trained(model);
  auto dataset = training::tiny_dataset(4);
  std::vector<data::Document> documents;
  for (int64_t i = 0; i < 4; ++i) documents.push_back(dataset.document(i));
  const std::vector<int64_t> numbers = {0, 1, 2, 3};
  auto batch = data::collate(documents, numbers, 64, 0);

  training::AuxiliaryLosses auxiliary(trained, {.router_aux_loss_coef = 0.5, .mtp_loss_weight = 2});
  auxiliary.set_global_counts(auxiliary.counts({batch}));
  training::cross_entropy_sum(auxiliary.observed(batch), batch);
  const auto found = auxiliary.term(batch).item<double>();

  double balance = 0, cross_entropy = 0;
  int64_t labels = 0;
  for (const auto& document : documents) {  // one at a time: no padding
    const std::vector<int64_t> tokens(document.tokens.begin(), document.tokens.end());
    auto ids = torch::tensor(tokens).unsqueeze(0);
    models::RoutingRecord routing;
    auto hidden = model.hidden_states(ids, &routing);
    auto logits = model.logits(model.mtp_hidden_states(0, hidden, ids, &routing))[0];
    for (const auto& [layer, loss] : routing.balance_losses) balance += loss.item<double>();
    const auto [begin, end] = document.loss_spans[0];
    for (auto t = std::max<int64_t>(2, static_cast<int64_t>(begin)); t < static_cast<int64_t>(end);
         ++t, ++labels)
      cross_entropy -= logits[t - 2].log_softmax(-1)[tokens[static_cast<size_t>(t)]].item<double>();
  }
  const double expected = 0.5 * balance / 4 + 2 * cross_entropy / static_cast<double>(labels);
  EXPECT_NEAR(found, expected, 1e-4 * expected);
}

TrainingRecipe recipe() { return {.max_steps = 1}; }

TEST(MixtureSettingsTest, AConfigWithoutAuxLossAlphaIsSaidInTheLog) {
  training::TrainerOptions options;
  auto notes = set_mixture_options(options, recipe(), tiny_deepseek_config(23));
  EXPECT_EQ(options.router_aux_loss_coef, 0);
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_NE(notes[0].find("aux_loss_alpha"), std::string::npos) << notes[0];
  EXPECT_NE(notes[1].find("bias_update_speed"), std::string::npos) << notes[1];
}

TEST(MixtureSettingsTest, TheRecipeGoesBeforeTheConfig) {
  training::TrainerOptions options;
  auto config = tiny_deepseek_config(23);
  config.moe->aux_loss_alpha = 0.001;
  set_mixture_options(options, recipe(), config);
  EXPECT_EQ(options.router_aux_loss_coef, 0.001);
  auto own = recipe();
  own.router_aux_loss_coef = 0;
  own.bias_update_speed = 0.002;
  EXPECT_TRUE(set_mixture_options(options, own, config).empty());
  EXPECT_EQ(options.router_aux_loss_coef, 0);
  EXPECT_EQ(options.bias_update_speed, 0.002);
  EXPECT_EQ(options.mtp_loss_weight, 0.1);
}

TEST(MixtureSettingsTest, KeysThatTheModelCannotFollowAreRefused) {
  training::TrainerOptions options;
  auto own = recipe();
  own.bias_update_speed = 0.001;
  auto softmax = tiny_deepseek_config(23);
  softmax.moe->router = models::RouterKind::kSoftmax;
  EXPECT_THROW(set_mixture_options(options, own, softmax), InvalidArgument);
  auto dense = tiny_deepseek_config(23);
  dense.moe.reset();
  EXPECT_THROW(set_mixture_options(options, own, dense), InvalidArgument);
}

}  // namespace
}  // namespace deepseek_train::tuning
