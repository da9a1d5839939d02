#include "deepseek_train/core/log.h"
#include "deepseek_train/models/checkpoint.h"
#include "deepseek_train/tuning/job.h"
#include "src/tuning/prepare_options.h"
#include "src/tuning/run_files.h"

namespace deepseek_train::tuning {
namespace {

data::PrepareResult write_store(const JobContext& context, const text::Tokenizer& tokenizer) {
  const auto& recipe = context.recipe;
  auto options = prepare_options(recipe, tokenizer);
  options.tokenizer_sha256 = tokenizer.sha256();
  options.provenance = {{"model", recipe.model_name_or_path}};
  auto result = data::prepare(context.env, training_sources(recipe, tokenizer),
                              tokenize_with(tokenizer), options, train_store(recipe));
  log_info("prepared ", train_store(recipe), ": ", result.documents, " documents, ", result.tokens,
           " tokens, ", result.loss_tokens, " of them trained on, ", result.truncated,
           " documents cut to ", recipe.data.max_length);
  return result;
}

data::PrepareResult share(const JobContext& context, const data::PrepareResult& mine) {
  std::array<int64_t, 4> counts = {mine.documents, mine.tokens, mine.loss_tokens, mine.truncated};
  context.communicator.broadcast(std::span<int64_t>(counts), /*root=*/0);
  return {counts[0], counts[1], counts[2], counts[3]};
}

}  // namespace

data::PrepareResult prepare_data(const JobContext& context, const text::Tokenizer& tokenizer) {
  data::PrepareResult result;
  if (context.communicator.rank() == 0) result = write_store(context, tokenizer);
  return share(context, result);
}

data::PrepareResult prepare_data(const JobContext& context) {
  data::PrepareResult result;
  if (context.communicator.rank() == 0) {
    auto checkpoint = models::open_checkpoint(context.env, context.recipe.model_name_or_path);
    result = write_store(context, checkpoint->tokenizer());
  }
  return share(context, result);
}

}  // namespace deepseek_train::tuning
