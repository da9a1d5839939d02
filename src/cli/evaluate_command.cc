#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "deepseek_train/tuning/evaluate.h"
#include "deepseek_train/tuning/model_loader.h"
#include "src/cli/commands.h"

namespace deepseek_train::cli {
namespace {

struct EvaluateArguments {
  std::string model, text, compute_dtype = "auto";
  int64_t context = 2048;
  bool json = false, reference = false;
};

int evaluate_text(Session& session, const EvaluateArguments& arguments) {
  auto& env = posix_env();
  const auto text = read_text(env, arguments.text);
  auto& communicator = session.connect();
  auto loaded = tuning::load_model(
      env, arguments.model,
      {.compute_dtype = arguments.reference
                            ? at::kFloat
                            : tuning::compute_dtype_by_name(arguments.compute_dtype),
       .numerics = arguments.reference ? models::Numerics::kReference : models::Numerics::kFast});
  const auto tokens = loaded.checkpoint->tokenizer().encode(text);
  const auto context = std::min(arguments.context, loaded.model->config().max_position_embeddings);
  const double perplexity = tuning::perplexity(*loaded.model, tokens, context, communicator);
  if (!session.is_lead()) return 0;
  if (arguments.json) {
    nlohmann::ordered_json json = {
        {"model", arguments.model},
        {"text", arguments.text},
        {"perplexity", perplexity},
        {"tokens", tokens.size()},
        {"context", context},
        {"int8_products", loaded.int8_products ? loaded.int8_products->count() : 0}};
    std::printf("%s\n", json.dump().c_str());
  } else {
    std::printf("%s: perplexity %.4f over %zu tokens in windows of %ld\n", arguments.text.c_str(),
                perplexity, tokens.size(), static_cast<long>(context));
  }
  return 0;
}

}  // namespace

void add_evaluate_command(CLI::App& app, Command& run) {
  static EvaluateArguments arguments;
  auto* command =
      app.add_subcommand("evaluate", "Perplexity of any model folder or GGUF file on a text");
  command
      ->add_option("model", arguments.model,
                   "a Hugging Face folder (compressed ones too) or a .gguf file")
      ->required();
  command->add_option("--text", arguments.text, "a UTF-8 text file")->required();
  command->add_option("--context", arguments.context, "tokens a window")->capture_default_str();
  command->add_option("--compute-dtype", arguments.compute_dtype, "auto, float32 or bfloat16")
      ->capture_default_str();
  command->add_flag("--reference", arguments.reference,
                    "Hugging Face's operation order in float32, for comparison");
  command->add_flag("--json", arguments.json, "one JSON object instead of a sentence");
  command->footer(
      "Example: deepseek-train evaluate runs/quickstart/export/w8a8 --text notes.txt --json");
  command->callback(
      [&run] { run = [](Session& session) { return evaluate_text(session, arguments); }; });
}

}  // namespace deepseek_train::cli
