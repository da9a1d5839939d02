// One record of a recipe's training data as the model will get it.
#pragma once

#include <cstdint>
#include <string>

#include "deepseek_train/core/env.h"
#include "deepseek_train/data/prepare.h"
#include "deepseek_train/text/tokenizer.h"
#include "deepseek_train/tuning/recipe.h"

namespace deepseek_train::tuning {

struct Sample {
  data::Document document;  // tokens and the spans the loss is taken on
  std::string place;        // "train.jsonl:17"
  bool truncated = false;   // to the recipe's max_length
  int64_t num_records = 0;  // of the whole file
};

// Record `index` (from 0) of data.train, through the same steps as prepare_data(): chat template,
// mask, tokens, length. Reads the whole file, and so finds what is wrong anywhere in it. Throws
// InvalidArgument as prepare_data() does, and for an index past the last record.
Sample read_sample(Env& env, const Recipe& recipe, const text::Tokenizer& tokenizer, int64_t index);

}  // namespace deepseek_train::tuning
