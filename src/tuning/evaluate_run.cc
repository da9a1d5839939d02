#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"
#include "deepseek_train/tuning/chat_records.h"
#include "deepseek_train/tuning/evaluate.h"
#include "deepseek_train/tuning/job.h"
#include "deepseek_train/tuning/model_loader.h"
#include "deepseek_train/tuning/run_log.h"
#include "src/tuning/run_files.h"

namespace deepseek_train::tuning {
namespace {

struct Candidate {
  std::string key, title, path;
};

std::vector<Candidate> candidates_of(const Recipe& recipe) {
  std::vector<Candidate> candidates = {{"base", "base", recipe.model_name_or_path},
                                       {"tuned", "tuned (bf16)", bf16_folder(recipe)}};
  if (recipe.quantization.scheme.empty()) return candidates;
  candidates.push_back({"int8_ptq", "INT8 without QAT", ptq_folder(recipe)});
  if (recipe.quantization.qat_steps > 0)
    candidates.push_back({"int8_qat", "INT8 with QAT", w8a8_folder(recipe)});
  return candidates;
}

uint64_t weight_bytes(Env& env, const std::string& path) {
  return path.ends_with(".gguf") ? env.file_size(path)
                                 : env.file_size(join_path(path, "model.safetensors"));
}

// Models by folder and dtype, so that one that is scored and timed is loaded once.
class ModelShelf {
 public:
  ModelShelf(Env& env, const models::BlockRegistry* blocks) : env_(env), blocks_(blocks) {}
  // Valid until clear().
  LoadedModel& get(const std::string& path, at::ScalarType dtype) {
    auto found = models_.find({path, dtype});
    if (found == models_.end())
      found = models_
                  .emplace(Key(path, dtype),
                           load_model(env_, path, {.compute_dtype = dtype, .blocks = blocks_}))
                  .first;
    return found->second;
  }
  void clear() { models_.clear(); }

 private:
  using Key = std::pair<std::string, at::ScalarType>;
  Env& env_;
  const models::BlockRegistry* blocks_;
  std::map<Key, LoadedModel> models_;
};

// The held-out records and the text that the perplexity is of: prompt and answer of every record, a
// blank line between them.
class HeldOut {
 public:
  explicit HeldOut(std::vector<TestRecord> records) : records_(std::move(records)) {}
  const std::vector<TestRecord>& records() const { return records_; }
  // Encoded once while the tokenizer is the same, as it is for a base model and its exports.
  const std::vector<int32_t>& running_text(const text::Tokenizer& tokenizer) {
    auto sha256 = tokenizer.sha256();
    if (sha256 == tokenizer_sha256_) return tokens_;
    std::string text;
    for (const auto& record : records_) text += record.prompt + record.answer + "\n\n";
    tokens_ = tokenizer.encode(text);
    tokenizer_sha256_ = std::move(sha256);
    return tokens_;
  }

 private:
  std::vector<TestRecord> records_;
  std::vector<int32_t> tokens_;
  std::string tokenizer_sha256_;  // of tokens_
};

std::map<std::string, double> read_baselines(Env& env, const std::string& path) {
  std::map<std::string, double> baselines;
  if (path.empty()) return baselines;
  auto json = nlohmann::json::parse(read_text(env, path), nullptr, /*allow_exceptions=*/false);
  DST_CHECK_AS(DataCorruption, json.is_object(), path,
               " is not a JSON object; make it again with the example's baseline.py");
  for (const char* key : {"majority", "logistic_regression"}) {
    DST_CHECK_AS(DataCorruption, json.contains(key) && json[key].is_number(), path,
                 " has no number \"", key, "\"");
    baselines[key] = json[key];
  }
  return baselines;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown processor";
}

// Scores one model; `tuned` is what quantized ones are compared with.
ModelReport evaluate_model(const JobContext& context, const Candidate& candidate,
                           LoadedModel& loaded, HeldOut& held_out, std::optional<Scores>& tuned) {
  const auto& options = context.recipe.evaluation;
  const auto& tokenizer = loaded.checkpoint->tokenizer();
  auto scores = score(*loaded.model, tokenizer, held_out.records(), context.communicator,
                      {.max_new_tokens = options.max_new_tokens, .batch_size = options.batch_size});
  ModelReport report{.key = candidate.key, .title = candidate.title};
  report.accuracy = scores.accuracy.value();
  report.interval = scores.accuracy.interval();
  report.perplexity =
      perplexity(*loaded.model, held_out.running_text(tokenizer),
                 std::min(options.context, loaded.model->config().max_position_embeddings),
                 context.communicator);
  report.bytes = weight_bytes(context.env, candidate.path);
  if (loaded.int8_products && tuned)
    report.agreement = agreement(*tuned, scores, context.communicator).value();
  if (candidate.key == "tuned") tuned = std::move(scores);
  if (context.communicator.rank() == 0)
    log_info(candidate.title, ": accuracy ", fixed(report.accuracy, 3), ", perplexity ",
             fixed(report.perplexity, 2));
  return report;
}

// INT8 layers take and give what the rest of the model flows in: here the dtype a deployment would
// choose.
void measure_speed(const JobContext& context, ModelShelf& shelf, Report& report) {
  const auto& fp32 = shelf.get(bf16_folder(context.recipe), at::kFloat);
  const auto& bf16 = shelf.get(bf16_folder(context.recipe), at::kBFloat16);
  const auto& int8 = shelf.get(ptq_folder(context.recipe), compute_dtype_by_name("auto"));
  auto rates = prefill_tokens_per_second({fp32.model.get(), bf16.model.get(), int8.model.get()},
                                         context.communicator);
  report.tokens_per_second = {{"fp32", rates[0]}, {"bf16", rates[1]}, {"int8", rates[2]}};
}

KernelReport describe_kernel(LoadedModel& int8) {
  torch::InferenceMode inference;
  const auto before = int8.int8_products->count();
  int8.model->logits(int8.model->hidden_states(torch::ones({1, 16}, at::kLong)));
  KernelReport kernel;
  kernel.int8_products = int8.int8_products->count() - before;
  for (const auto& module : int8.model->modules())
    if (auto* linear = module->as<ops::Linear>(); linear && !linear->has_weight())
      kernel.name = linear->method()->name();
  kernel.lm_head_in_int8 = !int8.model->lm_head().has_weight();
  return kernel;
}

// Fills in everything that is measured on models.
void evaluate_models(const JobContext& context, Report& report) {
  const auto& recipe = context.recipe;
  const auto dtype = compute_dtype_by_name(recipe.evaluation.compute_dtype);
  ModelShelf shelf(context.env, context.blocks);
  const auto& base = shelf.get(recipe.model_name_or_path, dtype);
  HeldOut held_out(read_test_records(
      context.env,
      sources_of(recipe.data, recipe.data.test, render_for_scoring(base.checkpoint->tokenizer()))));
  report.num_test_records = static_cast<int64_t>(held_out.records().size());
  std::optional<Scores> tuned;
  for (const auto& candidate : candidates_of(recipe)) {
    auto& loaded = shelf.get(candidate.path, dtype);
    report.models.push_back(evaluate_model(context, candidate, loaded, held_out, tuned));
    if (loaded.int8_products) {
      report.kernel = describe_kernel(loaded);
      if (report.tokens_per_second.empty()) measure_speed(context, shelf, report);
    }
    if (candidate.key != "tuned") shelf.clear();  // that one is timed beside the next, in INT8
  }
}

}  // namespace

Report evaluate_run(const JobContext& context) {
  const auto& recipe = context.recipe;
  DST_CHECK(!recipe.data.test.empty(),
            "the recipe has no data.test, so there is nothing to evaluate on");
  Report report;
  report.name = recipe.name;
  report.baselines = read_baselines(context.env, recipe.evaluation.baseline);
  report.num_ranks = context.communicator.size();
  report.machine = processor_name();
  evaluate_models(context, report);
  report.log_history = read_run_log(context.env, run_log(recipe));
  report.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - context.started).count();
  if (context.communicator.rank() == 0) {
    write_text(context.env, in_run(recipe, "report.json"), to_json(report));
    write_text(context.env, in_run(recipe, "report.html"), to_html(report));
  }
  context.communicator.barrier();
  return report;
}

}  // namespace deepseek_train::tuning
