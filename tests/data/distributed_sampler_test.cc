#include "deepseek_train/data/distributed_sampler.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "tests/data/pytorch_sampler_table.h"
#include "tests/data/support.h"
#include "tests/support/trials.h"

namespace deepseek_train::data {
namespace {

std::vector<int64_t> take_all(DistributedSampler& sampler) {
  std::vector<int64_t> samples;
  while (auto sample = sampler.next()) samples.push_back(*sample);
  return samples;
}

std::vector<DistributedSampler> make_ranks(DistributedSamplerOptions options, int num_replicas) {
  std::vector<DistributedSampler> ranks;
  options.num_replicas = num_replicas;
  for (options.rank = 0; options.rank < num_replicas; ++options.rank) ranks.emplace_back(options);
  return ranks;
}

// Rounds of one sample from each rank, as the ranks take them side by side; at most `rounds`, or to
// the end.
std::vector<int64_t> take_rounds(std::vector<DistributedSampler>& ranks,
                                 int64_t rounds = INT64_MAX) {
  std::vector<int64_t> samples;
  for (int64_t round = 0; round < rounds && ranks[0].remaining() > 0; ++round)
    for (DistributedSampler& rank : ranks) samples.push_back(rank.next().value());
  return samples;
}

TEST(DistributedSampler, EqualsPyTorchWithoutShuffle) {
  for (const PyTorchSamplerCase& expected : kPyTorchSamplerCases) {
    DistributedSampler sampler({.num_samples = expected.num_samples,
                                .num_replicas = expected.num_replicas,
                                .rank = expected.rank,
                                .shuffle = false,
                                .drop_last = expected.drop_last});
    std::vector<int64_t> by_index;
    for (int64_t k = 0; k < sampler.size(); ++k) by_index.push_back(sampler.index(k));
    EXPECT_EQ(by_index, expected.indices);
    EXPECT_EQ(take_all(sampler), expected.indices)
        << expected.num_samples << " samples, rank " << expected.rank << " of "
        << expected.num_replicas;
  }
}

TEST(DistributedSampler, FewerSamplesThanRanksAndDropLastIsAnEmptyEpoch) {
  DistributedSampler sampler({.num_samples = 2, .num_replicas = 5, .rank = 1, .drop_last = true});
  EXPECT_EQ(sampler.size(), 0);
  EXPECT_EQ(sampler.next(), std::nullopt);
}

TEST(DistributedSampler, TheGlobalOrderIsTheSameForEveryWorldSize) {
  for (int64_t num_samples : {1, 5, 100, 1000}) {
    DistributedSamplerOptions options{.num_samples = num_samples, .seed = 9};
    auto one = make_ranks(options, 1);
    const auto expected = take_rounds(one);
    auto sorted = expected;
    std::sort(sorted.begin(), sorted.end());
    for (int64_t i = 0; i < num_samples; ++i) ASSERT_EQ(sorted[static_cast<size_t>(i)], i);
    for (int world = 2; world <= 9; ++world) {
      auto ranks = make_ranks(options, world);
      auto samples = take_rounds(ranks);
      ASSERT_EQ(static_cast<int64_t>(samples.size()), (num_samples + world - 1) / world * world);
      for (size_t g = 0; g < samples.size(); ++g)
        ASSERT_EQ(samples[g], expected[g % expected.size()]);
    }
  }
}

// A ledger over random cuts: every sample is seen once, however often the number of ranks changes
// on the way.
TEST(DistributedSampler, ChangesOfWorldSizeLoseAndRepeatNothing) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < test_support::num_trials(300, 30'000); ++trial) {
    DistributedSamplerOptions options{.num_samples = static_cast<int64_t>(1 + random() % 500),
                                      .seed = random()};
    auto one = make_ranks(options, 1);
    one[0].set_epoch(3);
    const auto expected = take_rounds(one);
    std::vector<int64_t> samples;
    auto ranks = make_ranks(options, 1 + static_cast<int>(random() % 9));
    for (DistributedSampler& rank : ranks) rank.set_epoch(3);
    while (ranks[0].remaining() > 0) {
      auto taken = take_rounds(ranks, static_cast<int64_t>(1 + random() % 20));
      samples.insert(samples.end(), taken.begin(), taken.end());
      const std::string state = ranks[0].state_dict();
      for (const DistributedSampler& rank : ranks) ASSERT_EQ(rank.state_dict(), state);
      ranks = make_ranks(options, 1 + static_cast<int>(random() % 9));
      for (DistributedSampler& rank : ranks) rank.load_state_dict(state);
    }
    ASSERT_GE(samples.size(), expected.size());
    ASSERT_LT(samples.size(), expected.size() + 9);
    for (size_t g = 0; g < samples.size(); ++g)
      ASSERT_EQ(samples[g], expected[g % expected.size()]);
  }
}

TEST(DistributedSampler, ResumesAtEveryPosition) {
  for (bool drop_last : {false, true}) {
    DistributedSamplerOptions options{
        .num_samples = 23, .num_replicas = 3, .rank = 1, .seed = 4, .drop_last = drop_last};
    DistributedSampler whole(options);
    const auto expected = take_all(whole);
    for (int64_t cut = 0; cut <= static_cast<int64_t>(expected.size()); ++cut) {
      DistributedSampler before(options), after(options);
      for (int64_t i = 0; i < cut; ++i) before.next();
      after.load_state_dict(before.state_dict());
      EXPECT_EQ(after.remaining(), before.remaining());
      EXPECT_EQ(take_all(after), std::vector<int64_t>(expected.begin() + cut, expected.end()))
          << "cut at " << cut;
    }
  }
}

TEST(DistributedSampler, SetEpochGivesAnotherOrderAndKeepsALoadedPosition) {
  DistributedSamplerOptions options{.num_samples = 50};
  DistributedSampler sampler(options);
  const auto first = take_all(sampler);
  EXPECT_EQ(sampler.next(), std::nullopt);
  sampler.set_epoch(1);
  const auto second = take_all(sampler);
  EXPECT_NE(first, second);
  sampler.set_epoch(1);
  EXPECT_EQ(sampler.next(), std::nullopt);
  sampler.restart();
  EXPECT_EQ(take_all(sampler), second);
  sampler.set_epoch(0);
  EXPECT_EQ(take_all(sampler), first);

  DistributedSampler resumed(options);
  resumed.load_state_dict(
      R"({"version":1,"epoch":1,"position":48,"num_samples":50,"seed":0,"shuffle":true})");
  resumed.set_epoch(1);
  EXPECT_EQ(take_all(resumed), (std::vector<int64_t>{second[48], second[49]}));
}

TEST(DistributedSampler, SkipEqualsNext) {
  DistributedSamplerOptions options{.num_samples = 100, .num_replicas = 4, .rank = 2};
  DistributedSampler taken(options), skipped(options);
  for (int i = 0; i < 7; ++i) taken.next();
  skipped.skip(7);
  EXPECT_EQ(take_all(skipped), take_all(taken));
  expect_error<InvalidArgument>([&] { skipped.skip(1); }, {"skip of 1", "0 are left"});
}

TEST(DistributedSampler, RefusesAStateOfOtherData) {
  DistributedSampler sampler({.num_samples = 100, .seed = 5});
  auto state = [](const char* seed, const char* size, const char* version, const char* shuffle) {
    return concat(R"({"version":)", version, R"(,"epoch":0,"position":10,"num_samples":)", size,
                  R"(,"seed":)", seed, R"(,"shuffle":)", shuffle, "}");
  };
  EXPECT_NO_THROW(sampler.load_state_dict(state("5", "100", "1", "true")));
  EXPECT_EQ(sampler.position(), 10);
  expect_error<InvalidArgument>([&] { sampler.load_state_dict(state("6", "100", "1", "true")); },
                                {"seed 6", "has 5"});
  expect_error<InvalidArgument>([&] { sampler.load_state_dict(state("5", "99", "1", "true")); },
                                {"num_samples 99", "has 100"});
  expect_error<InvalidArgument>([&] { sampler.load_state_dict(state("5", "100", "2", "true")); },
                                {"version 2"});
  expect_error<InvalidArgument>([&] { sampler.load_state_dict(state("5", "100", "1", "false")); },
                                {"shuffle false"});
  EXPECT_EQ(sampler.position(), 10);
}

TEST(DistributedSampler, RefusesAStateThatIsNone) {
  DistributedSampler sampler({.num_samples = 100});
  for (
      const char* text :
      {"", "{", "[]", "7", R"({"version":1})",
       R"({"version":1,"epoch":0,"position":-1,"num_samples":100,"seed":0,"shuffle":true})",
       R"({"version":1,"epoch":-1,"position":1,"num_samples":100,"seed":0,"shuffle":true})",
       R"({"version":1,"epoch":0,"position":1.5,"num_samples":100,"seed":0,"shuffle":true})",
       R"({"version":1,"epoch":0,"position":9000000000000000000,"num_samples":100,"seed":0,"shuffle":true})",
       R"({"version":1,"epoch":0,"position":18446744073709551615,"num_samples":100,"seed":0,"shuffle":true})",
       R"({"version":1,"epoch":18446744073709551615,"position":1,"num_samples":100,"seed":0,"shuffle":true})"})
    EXPECT_THROW(sampler.load_state_dict(text), DataCorruption) << text;
  EXPECT_EQ(sampler.position(), 0);
  EXPECT_EQ(sampler.epoch(), 0);
}

TEST(DistributedSampler, KeepsSeedsOfAllBits) {
  DistributedSamplerOptions options{.num_samples = 10, .seed = UINT64_MAX};
  DistributedSampler sampler(options), other(options);
  sampler.next();
  other.load_state_dict(sampler.state_dict());
  EXPECT_EQ(other.next(), sampler.next());
}

TEST(DistributedSampler, RefusesRanksThatCannotBe) {
  expect_error<InvalidArgument>([] { DistributedSampler({.num_samples = 0}); },
                                {"num_samples is 0"});
  expect_error<InvalidArgument>(
      [] { DistributedSampler({.num_samples = 1, .num_replicas = 2, .rank = 2}); },
      {"rank 2 of 2"});
  expect_error<InvalidArgument>([] { DistributedSampler({.num_samples = 1, .num_replicas = 0}); },
                                {"of 0"});
  expect_error<InvalidArgument>([] { DistributedSampler({.num_samples = 1, .rank = -1}); },
                                {"rank -1"});
}

}  // namespace
}  // namespace deepseek_train::data
