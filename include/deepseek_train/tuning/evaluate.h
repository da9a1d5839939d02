// Scores of a model on held-out records and texts. Every rank evaluates its share; each record
// counts once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deepseek_train/collectives/communicator.h"
#include "deepseek_train/core/env.h"
#include "deepseek_train/data/sources.h"
#include "deepseek_train/models/transformer.h"
#include "deepseek_train/text/tokenizer.h"

namespace deepseek_train::tuning {

// A held-out record: what is asked and what should be answered.
struct TestRecord {
  std::string prompt;
  std::string answer;
};

// Reads prompt and answer of every record of the recipe's test file.
std::vector<TestRecord> read_test_records(Env& env, const data::SourceOptions& sources);

struct Proportion {
  int64_t successes = 0;
  int64_t total = 0;

  double value() const {
    return total > 0 ? static_cast<double>(successes) / static_cast<double>(total) : 0.0;
  }
  // 95 % interval of Wilson (1927).
  std::pair<double, double> interval() const;
};

struct Scores {
  Proportion accuracy;
  // This rank's share, in its order: for comparing two models on the same records.
  std::vector<std::string> answers;
};

struct ScoreOptions {
  int64_t max_new_tokens = 8;
  int64_t batch_size = 50;
};

// Greedy generation to the end of text; a record is right when the generated text equals its answer
// exactly. Collective.
Scores score(models::Transformer& model, const text::Tokenizer& tokenizer,
             const std::vector<TestRecord>& records, collectives::Communicator& communicator,
             const ScoreOptions& options);

// Records to which both models gave the same answer. Collective.
Proportion agreement(const Scores& a, const Scores& b, collectives::Communicator& communicator);

// Perplexity of a text: non-overlapping windows of `context` tokens, no added tokens, exp of the
// mean over all predicted tokens (the first of each window is not predicted). Windows are shared
// out over the ranks. Collective.
double perplexity(models::Transformer& model, const std::vector<int32_t>& tokens, int64_t context,
                  collectives::Communicator& communicator);

struct SpeedOptions {
  int64_t rows = 8;
  int64_t columns = 128;
  int repeats = 7;
};

// Median tokens/s of prefill forward passes (hidden states of all tokens, logits of each row's
// last) for several models, interleaved, summed over the ranks, which all run at once. Collective.
std::vector<double> prefill_tokens_per_second(const std::vector<models::Transformer*>& models,
                                              collectives::Communicator& communicator,
                                              const SpeedOptions& options = {});

}  // namespace deepseek_train::tuning
