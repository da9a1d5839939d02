#include "deepseek_train/training/trainer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "deepseek_train/core/error.h"
#include "tests/support/rank_threads.h"
#include "tests/training/tiny_lm.h"

namespace deepseek_train::training {
namespace {

using collectives::Communicator;
using test_support::run_ranks;

class Recorder final : public MetricsSink {
 public:
  void record(int64_t, const MetricValues& values) override {
    losses.push_back(values.front().second);
  }
  std::vector<double> losses;
};

// One rank's trainer with everything it borrows.
struct RankTrainer {
  RankTrainer(Communicator& communicator, const TrainerOptions& options, int64_t batch_size = 4)
      : sampler({.num_samples = dataset.size(),
                 .num_replicas = communicator.size(),
                 .rank = communicator.rank(),
                 .seed = 3}),
        loader(dataset, sampler, {.batch_size = batch_size, .max_length = 64}),
        trainer({model, loader, communicator, posix_env(), metrics}, options) {}

  data::MemoryDataset dataset = tiny_dataset(53);  // no multiple of batch or ranks
  data::DistributedSampler sampler;
  data::DataLoader loader;
  TinyLm model{5};
  Recorder metrics;
  Trainer trainer;
};

class TrainerTest : public testing::Test {
 protected:
  TrainerTest() : folder_(join_path(testing::TempDir(), concat("dst_trainer_", ::getpid()))) {}
  ~TrainerTest() override { posix_env().remove_all(folder_); }

  TrainerOptions options(std::string_view name = "run") const {
    TrainerOptions options;
    options.output_dir = join_path(folder_, name);
    options.max_steps = 20;
    options.gradient_accumulation_steps = 2;
    options.schedule = {.peak = 1e-2, .warmup_steps = 2, .decay_steps = 20};
    return options;
  }

  std::string folder_;
};

std::vector<torch::Tensor> weights_of(TinyLm& model) {
  std::vector<torch::Tensor> weights;
  for (const auto& parameter : model.parameters()) weights.push_back(parameter.detach().clone());
  return weights;
}

void expect_same_bits(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(torch::equal(a[i], b[i])) << "parameter " << i;
}

TEST_F(TrainerTest, TheLossFalls) {
  run_ranks(2, [&](Communicator& communicator) {
    auto longer = options();
    longer.max_steps = longer.schedule.decay_steps = 150;
    RankTrainer setup(communicator, longer);
    EXPECT_TRUE(setup.trainer.run_until(150));
    EXPECT_LT(setup.metrics.losses.back(), 0.8 * setup.metrics.losses.front());
  });
}

// Stopped at any step, across the end of an epoch too, and resumed in a new process: the same bits
// as without a stop.
TEST_F(TrainerTest, AResumedRunEqualsAnUninterruptedOneBitByBit) {
  for (int ranks : {1, 2}) {
    std::vector<torch::Tensor> expected;
    std::vector<double> losses;
    run_ranks(ranks, [&](Communicator& communicator) {
      RankTrainer setup(communicator, options(concat("whole", ranks)));
      setup.trainer.run_until(20);
      if (communicator.rank() == 0)
        expected = weights_of(setup.model), losses = setup.metrics.losses;
    });
    for (int64_t stop_at : {1, 4, 7, 13}) {
      const auto run = concat("stopped", ranks, "_", stop_at);
      run_ranks(ranks, [&](Communicator& communicator) {
        auto stopping = options(run);
        RankTrainer setup(communicator, stopping);
        setup.trainer.run_until(stop_at);
        setup.trainer.save();
      });
      run_ranks(ranks, [&](Communicator& communicator) {
        RankTrainer setup(communicator, options(run));
        ASSERT_TRUE(setup.trainer.resume());
        EXPECT_EQ(setup.trainer.global_step(), stop_at);
        EXPECT_TRUE(setup.trainer.run_until(20));
        if (communicator.rank() != 0) return;
        expect_same_bits(weights_of(setup.model), expected);
        EXPECT_EQ(setup.metrics.losses,
                  std::vector<double>(losses.begin() + stop_at, losses.end()));
        EXPECT_EQ(setup.trainer.log_history().size(), 20u);
      });
    }
  }
}

TEST_F(TrainerTest, OneRanksWishToStopStopsAllAndSaves) {
  run_ranks(3, [&](Communicator& communicator) {
    auto stopping = options();
    int asked = 0;
    stopping.stop_requested = [&] { return communicator.rank() == 1 && ++asked == 5; };
    RankTrainer setup(communicator, stopping);
    EXPECT_FALSE(setup.trainer.run_until(20));
    EXPECT_EQ(setup.trainer.global_step(), 5);
  });
  EXPECT_TRUE(posix_env().exists(join_path(options().output_dir, "checkpoint-5/COMPLETE")));
}

TEST_F(TrainerTest, ALossThatIsNoNumberIsOneClearError) {
  run_ranks(2, [&](Communicator& communicator) {
    RankTrainer setup(communicator, options());
    setup.trainer.run_until(2);
    setup.trainer.save();
    {
      torch::NoGradGuard no_grad;
      setup.model.parameters()[0].fill_(NAN);
    }
    try {
      setup.trainer.run_until(3);
      FAIL() << "no error";
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find("step 3"), std::string::npos) << error.what();
    }
  });
  EXPECT_TRUE(posix_env().exists(join_path(options().output_dir, "checkpoint-2/COMPLETE")));
}

TEST_F(TrainerTest, SavesAtIntervalsAndKeepsTheNewest) {
  run_ranks(1, [&](Communicator& communicator) {
    auto saving = options();
    saving.save_steps = 3;
    saving.save_total_limit = 2;
    RankTrainer setup(communicator, saving);
    setup.trainer.run_until(11);
  });
  EXPECT_EQ(posix_env().list(options().output_dir),
            (std::vector<std::string>{"checkpoint-6", "checkpoint-9"}));
}

}  // namespace
}  // namespace deepseek_train::training
