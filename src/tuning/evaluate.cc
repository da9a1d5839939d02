#include "deepseek_train/tuning/evaluate.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include "deepseek_train/core/error.h"
#include "deepseek_train/models/generate.h"

namespace deepseek_train::tuning {
namespace {

// Sum of -log p over one window's predicted tokens.
double window_loss(models::Transformer& model, std::span<const int32_t> window) {
  auto ids = torch::empty({1, static_cast<int64_t>(window.size())}, at::kLong);
  std::copy(window.begin(), window.end(), ids.data_ptr<int64_t>());
  auto hidden = model.hidden_states(ids.slice(1, 0, -1)).squeeze(0);
  auto targets = ids.squeeze(0).slice(0, 1);
  // In pieces, so that the logits of a long window are never whole: 256 * V floats at once.
  constexpr int64_t kPiece = 256;
  double sum = 0;
  for (int64_t begin = 0; begin < targets.size(0); begin += kPiece) {
    auto logits = model.logits(hidden.slice(0, begin, begin + kPiece)).to(at::kFloat);
    sum += at::cross_entropy_loss(logits, targets.slice(0, begin, begin + kPiece), {},
                                  at::Reduction::Sum)
               .item<double>();
  }
  return sum;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

std::vector<TestRecord> read_test_records(Env& env, const data::SourceOptions& sources) {
  std::vector<TestRecord> records;
  data::for_each_record(env, sources, [&](const data::TextRecord& record) {
    TestRecord test;
    for (const auto& segment : record.segments) {
      DST_CHECK(segment.loss || test.answer.empty(), record.place,
                ": a test record must be one prompt followed by one answer");
      (segment.loss ? test.answer : test.prompt) += segment.text;
    }
    DST_CHECK(!test.prompt.empty(), record.place,
              ": a test record needs a prompt before its answer");
    records.push_back(std::move(test));
  });
  DST_CHECK(!records.empty(), "the test file ", sources.paths.front(), " has no records");
  return records;
}

std::pair<double, double> Proportion::interval() const {
  if (total == 0) return {0.0, 1.0};
  constexpr double z = 1.959963984540054;
  const double n = static_cast<double>(total), p = value();
  const double center = (p + z * z / (2 * n)) / (1 + z * z / n);
  const double half = z / (1 + z * z / n) * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  return {std::max(0.0, center - half), std::min(1.0, center + half)};
}

Scores score(models::Transformer& model, const text::Tokenizer& tokenizer,
             const std::vector<TestRecord>& records, collectives::Communicator& communicator,
             const ScoreOptions& options) {
  std::vector<const TestRecord*> mine;
  for (size_t i = static_cast<size_t>(communicator.rank()); i < records.size();
       i += static_cast<size_t>(communicator.size()))
    mine.push_back(&records[i]);

  models::GenerateOptions generate{
      .max_new_tokens = options.max_new_tokens,
      .eos_token_ids = models::end_token_ids(model.config(), tokenizer)};
  Scores scores;
  std::array<int64_t, 2> counts = {0, static_cast<int64_t>(mine.size())};
  for (size_t begin = 0; begin < mine.size(); begin += static_cast<size_t>(options.batch_size)) {
    const size_t end = std::min(mine.size(), begin + static_cast<size_t>(options.batch_size));
    std::vector<std::vector<int32_t>> prompts;
    for (size_t i = begin; i < end; ++i) prompts.push_back(tokenizer.encode(mine[i]->prompt));
    auto outputs = models::generate(model, prompts, generate);
    for (size_t i = begin; i < end; ++i) {
      scores.answers.push_back(tokenizer.decode(outputs[i - begin]));
      counts[0] += scores.answers.back() == mine[i]->answer;
    }
  }
  communicator.all_reduce(std::span<int64_t>(counts));
  scores.accuracy = {counts[0], counts[1]};
  return scores;
}

Proportion agreement(const Scores& a, const Scores& b, collectives::Communicator& communicator) {
  DST_ASSERT(a.answers.size() == b.answers.size(), "scores of ", a.answers.size(), " and ",
             b.answers.size(), " records");
  std::array<int64_t, 2> counts = {0, static_cast<int64_t>(a.answers.size())};
  for (size_t i = 0; i < a.answers.size(); ++i) counts[0] += a.answers[i] == b.answers[i];
  communicator.all_reduce(std::span<int64_t>(counts));
  return {counts[0], counts[1]};
}

double perplexity(models::Transformer& model, const std::vector<int32_t>& tokens, int64_t context,
                  collectives::Communicator& communicator) {
  torch::InferenceMode inference;
  DST_CHECK(tokens.size() >= 2, "the text has ", tokens.size(),
            " tokens; perplexity needs at least 2");
  DST_CHECK(context >= 2 && context <= model.config().max_position_embeddings, "a context of ",
            context, " tokens; wanted 2 to the model's ", model.config().max_position_embeddings);
  std::array<double, 2> sums = {0, 0};  // loss, predicted tokens
  const auto step = static_cast<size_t>(context);
  for (size_t begin = 0, i = 0; begin + 1 < tokens.size(); begin += step, ++i) {
    if (i % static_cast<size_t>(communicator.size()) != static_cast<size_t>(communicator.rank()))
      continue;
    auto window = std::span(tokens).subspan(begin, std::min(step, tokens.size() - begin));
    sums[0] += window_loss(model, window);
    sums[1] += static_cast<double>(window.size() - 1);
  }
  communicator.all_reduce(std::span<double>(sums));
  return std::exp(sums[0] / sums[1]);
}

std::vector<double> prefill_tokens_per_second(const std::vector<models::Transformer*>& models,
                                              collectives::Communicator& communicator,
                                              const SpeedOptions& options) {
  torch::InferenceMode inference;
  using Clock = std::chrono::steady_clock;
  std::vector<std::vector<double>> seconds(models.size());
  const auto vocabulary = models.front()->config().vocab_size;
  for (int repeat = -1; repeat < options.repeats; ++repeat) {  // the first round warms up
    for (size_t m = 0; m < models.size(); ++m) {
      auto ids = (torch::arange(options.rows * options.columns, at::kLong) * 7919 + repeat + 1)
                     .remainder(vocabulary)
                     .view({options.rows, options.columns});
      communicator.barrier();
      auto begin = Clock::now();
      auto logits = models[m]->logits(models[m]->hidden_states(ids).slice(1, -1));
      const double checksum = logits.sum().item<double>();
      if (repeat >= 0)
        seconds[m].push_back(std::chrono::duration<double>(Clock::now() - begin).count());
      DST_CHECK(std::isfinite(checksum), "a forward pass of model ", m,
                " gave logits that are not numbers");
    }
  }
  std::vector<double> rates;
  for (const auto& times : seconds)
    rates.push_back(static_cast<double>(options.rows * options.columns) / median(times));
  communicator.all_reduce(std::span<double>(rates));
  return rates;
}

}  // namespace deepseek_train::tuning
