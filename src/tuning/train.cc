#include <torch/torch.h>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"
#include "deepseek_train/data/token_store.h"
#include "deepseek_train/quantization/torch/frozen_linear.h"
#include "deepseek_train/quantization/torch/qat.h"
#include "deepseek_train/training/trainer.h"
#include "deepseek_train/tuning/export.h"
#include "deepseek_train/tuning/job.h"
#include "deepseek_train/tuning/model_loader.h"
#include "deepseek_train/tuning/peft_adapter.h"
#include "src/tuning/mixture_settings.h"
#include "src/tuning/run_files.h"
#include "src/tuning/trained_model.h"

namespace deepseek_train::tuning {
namespace {

training::TrainerOptions trainer_options(const JobContext& context,
                                         const models::ModelConfig& config) {
  const auto& recipe = context.recipe.training;
  training::TrainerOptions options;
  options.output_dir = context.recipe.run_folder();
  options.max_steps = recipe.max_steps + context.recipe.quantization.qat_steps;
  options.gradient_accumulation_steps = recipe.gradient_accumulation_steps;
  options.schedule = {.peak = recipe.learning_rate,
                      .final_ratio = recipe.min_learning_rate_ratio,
                      .warmup_steps = recipe.warmup_steps,
                      .decay_steps = recipe.max_steps};
  options.optimizer.weight_decay = recipe.weight_decay;
  options.max_grad_norm = recipe.max_grad_norm;
  options.save_steps = recipe.save_steps;
  options.save_total_limit = static_cast<int>(recipe.save_total_limit);
  options.stop_requested = context.stop_requested;
  for (const auto& note : set_mixture_options(options, recipe, config))
    if (context.communicator.rank() == 0) log_info(note);
  return options;
}

data::DistributedSampler make_sampler(const JobContext& context, const data::Dataset& dataset) {
  return data::DistributedSampler({.num_samples = dataset.size(),
                                   .num_replicas = context.communicator.size(),
                                   .rank = context.communicator.rank(),
                                   .seed = static_cast<uint64_t>(context.recipe.training.seed)});
}

// Rank 0 writes, the others wait.
template <typename Write>
void on_rank_0(const JobContext& context, const Write& write) {
  if (context.communicator.rank() == 0) write();
  context.communicator.barrier();
}

constexpr const char* kAdapter = "default";

// Freezes the model, and packs it where the recipe asks; null without a section lora.
std::unique_ptr<LoraAdapters> add_adapter(const JobContext& context,
                                          const std::shared_ptr<models::Transformer>& model) {
  const auto& recipe = context.recipe;
  if (!recipe.lora) return nullptr;
  if (!recipe.lora->base.empty())
    quantization::freeze_linears(*model, quantization::frozen_format_by_name(recipe.lora->base));
  auto adapters = std::make_unique<LoraAdapters>(model);
  auto config = recipe.lora->config;
  config.base_model_name_or_path = recipe.model_name_or_path;
  adapters->add(kAdapter, config, static_cast<uint64_t>(recipe.training.seed));
  return adapters;
}

// The adapter's folder, and the base model as it is on disk with the adapter merged into it, which
// the other exports are made from.
std::shared_ptr<models::Transformer> export_adapter(const JobContext& context,
                                                    const LoraAdapters& adapters) {
  const auto folder = adapter_folder(context.recipe);
  save_adapter(context.env, folder, adapters, kAdapter);
  log_info("exported ", folder);
  auto base = load_model(context.env, context.recipe.model_name_or_path,
                         {.float32_masters = true,
                          .blocks = context.blocks,
                          .attention_block = context.recipe.attention_block,
                          .mlp_block = context.recipe.mlp_block})
                  .model;
  LoraAdapters merged(base);
  load_adapter(context.env, folder, merged, kAdapter);
  merged.merge_and_unload();
  return base;
}

void export_tuned(const JobContext& context, const std::shared_ptr<models::Transformer>& trained,
                  const LoraAdapters* adapters, const text::Tokenizer& tokenizer) {
  const auto& recipe = context.recipe;
  on_rank_0(context, [&] {
    auto model = adapters ? export_adapter(context, *adapters) : trained;
    export_bf16(context.env, bf16_folder(recipe), *model, tokenizer);
    log_info("exported ", bf16_folder(recipe));
    if (recipe.quantization.scheme.empty()) return;
    export_w8a8(context.env, ptq_folder(recipe), *model, tokenizer, recipe.quantization.ignore);
    log_info("exported ", ptq_folder(recipe));
  });
}

// The last part of the run: the forward pass sees what INT8 will make of weights and activations,
// and learns to answer as the tuned model does without it (quantization-aware distillation).
bool train_quantized(const JobContext& context, training::Trainer& trainer,
                     models::Transformer& model, const text::Tokenizer& tokenizer) {
  const auto& recipe = context.recipe.quantization;
  if (recipe.scheme.empty() || recipe.qat_steps == 0) return true;
  auto tuned = load_model(context.env, bf16_folder(context.recipe),
                          {.compute_dtype = model.compute_dtype(), .blocks = context.blocks});
  TrainedModel teacher(*tuned.model);
  trainer.set_loss(training::distillation(teacher));
  auto names =
      quantization::prepare_qat(model, quantization::scheme_by_name(recipe.scheme), recipe.ignore);
  if (context.communicator.rank() == 0)
    log_info("quantization-aware training: ", names.size(), " linear layers in ", recipe.scheme,
             ", ", recipe.qat_steps, " steps; the loss is now the distance from the tuned model");
  if (!trainer.run_until(context.recipe.training.max_steps + recipe.qat_steps)) return false;
  on_rank_0(context, [&] {
    export_w8a8(context.env, w8a8_folder(context.recipe), model, tokenizer, recipe.ignore);
    log_info("exported ", w8a8_folder(context.recipe));
  });
  return true;
}

}  // namespace

bool train(const JobContext& context) {
  const auto& recipe = context.recipe;
  on_rank_0(context, [&] { claim_run_folder(context.env, recipe); });
  auto checkpoint = models::open_checkpoint(context.env, recipe.model_name_or_path);
  prepare_data(context, checkpoint->tokenizer());
  auto loaded = load_model(std::move(checkpoint),
                           {.compute_dtype = compute_dtype_by_name(recipe.compute_dtype),
                            .float32_masters = !recipe.lora,
                            .blocks = context.blocks,
                            .attention_block = recipe.attention_block,
                            .mlp_block = recipe.mlp_block});
  const auto adapters = add_adapter(context, loaded.model);
  const auto& tokenizer = loaded.checkpoint->tokenizer();
  data::TokenStore store(context.env, train_store(recipe));
  store.check_tokenizer(tokenizer.sha256());
  auto sampler = make_sampler(context, store);
  data::DataLoader loader(store, sampler,
                          {.batch_size = recipe.training.per_device_train_batch_size,
                           .max_length = recipe.data.max_length,
                           .pad_id = static_cast<uint32_t>(tokenizer.pad_id().value_or(0))});
  TrainedModel model(*loaded.model);
  const auto options = trainer_options(context, loaded.model->config());
  if (options.mtp_loss_weight == 0) freeze_mtp_layers(*loaded.model);
  training::Trainer trainer({model, loader, context.communicator, context.env, context.metrics},
                            options);
  if (trainer.resume() && context.communicator.rank() == 0)
    log_info("going on from step ", trainer.global_step());

  if (!trainer.run_until(recipe.training.max_steps)) return false;
  // A checkpoint at exactly this step may stand for a run that ended before its exports.
  if (trainer.global_step() == recipe.training.max_steps)
    export_tuned(context, loaded.model, adapters.get(), tokenizer);
  return train_quantized(context, trainer, *loaded.model, tokenizer);
}

}  // namespace deepseek_train::tuning
