// How a recipe's training records become token ids: for the store, and for looking at one.
#pragma once

#include "deepseek_train/data/prepare.h"
#include "deepseek_train/text/tokenizer.h"
#include "deepseek_train/tuning/chat_records.h"
#include "deepseek_train/tuning/recipe.h"

namespace deepseek_train::tuning {

inline data::PrepareOptions prepare_options(const Recipe& recipe,
                                            const text::Tokenizer& tokenizer) {
  data::PrepareOptions options;
  options.eos_id = tokenizer.eos_id();
  options.max_length = recipe.data.max_length;
  return options;
}

inline data::SourceOptions training_sources(const Recipe& recipe,
                                            const text::Tokenizer& tokenizer) {
  return sources_of(recipe.data, recipe.data.train,
                    render_for_training(tokenizer, text::parse_think_policy(recipe.data.think)));
}

inline data::TokenizeFn tokenize_with(const text::Tokenizer& tokenizer) {
  return [tokenizer](std::string_view text) { return tokenizer.encode(text); };
}

}  // namespace deepseek_train::tuning
