#include "deepseek_train/core/log.h"
#include "deepseek_train/models/checkpoint.h"
#include "deepseek_train/tuning/job.h"
#include "src/tuning/run_files.h"

namespace deepseek_train::tuning {

data::PrepareResult prepare_data(const JobContext& context) {
  const auto& recipe = context.recipe;
  std::array<int64_t, 4> counts{};
  if (context.communicator.rank() == 0) {
    auto checkpoint = models::open_checkpoint(context.env, recipe.model_name_or_path);
    const auto& tokenizer = checkpoint->tokenizer();
    data::PrepareOptions options;
    options.eos_id = tokenizer.eos_id();
    options.max_length = recipe.data.max_length;
    options.tokenizer_sha256 = tokenizer.sha256();
    options.provenance = {{"model", recipe.model_name_or_path}};
    auto result = data::prepare(
        context.env, sources_of(recipe.data, recipe.data.train),
        [&](std::string_view text) { return tokenizer.encode(text); }, options,
        train_store(recipe));
    log_info("prepared ", train_store(recipe), ": ", result.documents, " documents, ",
             result.tokens, " tokens, ", result.loss_tokens, " of them trained on, ",
             result.truncated, " documents cut to ", recipe.data.max_length);
    counts = {result.documents, result.tokens, result.loss_tokens, result.truncated};
  }
  context.communicator.broadcast(std::span<int64_t>(counts), /*root=*/0);
  return {counts[0], counts[1], counts[2], counts[3]};
}

}  // namespace deepseek_train::tuning
