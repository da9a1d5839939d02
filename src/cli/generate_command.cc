#include <CLI/CLI.hpp>
#include <cstdio>

#include "deepseek_train/models/generate.h"
#include "deepseek_train/tuning/model_loader.h"
#include "src/cli/commands.h"

namespace deepseek_train::cli {
namespace {

struct GenerateArguments {
  std::string model, prompt, compute_dtype = "auto";
  int64_t max_new_tokens = 64;
  double temperature = 0, top_p = 1;
  uint64_t seed = 0;
  std::vector<std::string> stop_strings;
};

// A prompt typed in a shell writes a line break as \n.
std::string with_line_breaks(std::string text) {
  for (size_t at = text.find("\\n"); at != std::string::npos; at = text.find("\\n", at + 1))
    text.replace(at, 2, "\n");
  return text;
}

int generate_text(Session& session, const GenerateArguments& arguments) {
  if (!session.is_lead()) return 0;
  auto loaded =
      tuning::load_model(posix_env(), arguments.model,
                         {.compute_dtype = tuning::compute_dtype_by_name(arguments.compute_dtype)});
  const auto& tokenizer = loaded.checkpoint->tokenizer();
  models::GenerateOptions options{
      .max_new_tokens = arguments.max_new_tokens,
      .eos_token_ids = models::end_token_ids(loaded.model->config(), tokenizer),
      .temperature = arguments.temperature,
      .top_p = arguments.top_p,
      .seed = arguments.seed,
      .tokenizer = &tokenizer};
  for (const auto& stop : arguments.stop_strings)
    options.stop_strings.push_back(with_line_breaks(stop));
  options.on_token = [&](size_t, int32_t token) {
    const int32_t ids[] = {token};
    auto text = tokenizer.decode(ids);
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  models::generate(*loaded.model, {tokenizer.encode(with_line_breaks(arguments.prompt))}, options);
  std::printf("\n");
  return 0;
}

}  // namespace

void add_generate_command(CLI::App& app, Command& run) {
  static GenerateArguments arguments;
  auto* command = app.add_subcommand("generate", "Continuation of a prompt");
  command->add_option("model", arguments.model, "a Hugging Face folder or a .gguf file")
      ->required();
  command
      ->add_option("--prompt", arguments.prompt,
                   "the text to continue; \\n stands for a line break")
      ->required();
  command->add_option("--max-new-tokens", arguments.max_new_tokens, "at most so many tokens")
      ->capture_default_str();
  command->add_option("--temperature", arguments.temperature, "0: the most probable token always")
      ->capture_default_str();
  command->add_option("--top-p", arguments.top_p, "draw from the likeliest tokens of this mass")
      ->capture_default_str();
  command->add_option("--seed", arguments.seed, "of the drawing")->capture_default_str();
  command->add_option("--stop", arguments.stop_strings,
                      "end with this text; may be given several times");
  command->add_option("--compute-dtype", arguments.compute_dtype, "auto, float32 or bfloat16")
      ->capture_default_str();
  command->footer(
      "Example: deepseek-train generate runs/quickstart/export/w8a8 --prompt 'Software: plays "
      "chess\\nSection:'");
  command->callback(
      [&run] { run = [](Session& session) { return generate_text(session, arguments); }; });
}

}  // namespace deepseek_train::cli
