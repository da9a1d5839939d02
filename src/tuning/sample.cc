#include "deepseek_train/tuning/sample.h"

#include "deepseek_train/core/error.h"
#include "src/tuning/prepare_options.h"

namespace deepseek_train::tuning {

Sample read_sample(Env& env, const Recipe& recipe, const text::Tokenizer& tokenizer,
                   int64_t index) {
  Sample sample;
  data::for_each_record(
      env, training_sources(recipe, tokenizer), [&](const data::TextRecord& record) {
        if (sample.num_records++ != index) return;
        sample.place = record.place;
        sample.document = data::make_document(record, tokenize_with(tokenizer),
                                              prepare_options(recipe, tokenizer));
        sample.truncated =
            data::truncate_document(sample.document, prepare_options(recipe, tokenizer).max_length);
      });
  DST_CHECK(index >= 0 && index < sample.num_records, "record ", index + 1, " of ",
            recipe.data.train, " was asked for, it has ", sample.num_records);
  return sample;
}

}  // namespace deepseek_train::tuning
