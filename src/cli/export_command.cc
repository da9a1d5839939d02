#include <CLI/CLI.hpp>
#include <cstdio>

#include "deepseek_train/core/error.h"
#include "deepseek_train/tuning/export.h"
#include "deepseek_train/tuning/model_loader.h"
#include "src/cli/commands.h"

namespace deepseek_train::cli {
namespace {

struct ExportArguments {
  std::string model, output, format = "w8a8";
  std::vector<std::string> ignore = {"lm_head"};
};

int export_model(Session& session, const ExportArguments& arguments) {
  if (!session.is_lead()) return 0;
  auto& env = posix_env();
  DST_CHECK(!env.exists(arguments.output), arguments.output,
            " exists already; name a new folder or remove it");
  auto loaded = tuning::load_model(env, arguments.model, {.float32_masters = true});
  DST_CHECK(!loaded.int8_products, arguments.model,
            " is compressed already; export from the floating-point model");
  const auto& tokenizer = loaded.checkpoint->tokenizer();
  if (arguments.format == "bf16") {
    tuning::export_bf16(env, arguments.output, *loaded.model, tokenizer);
  } else {
    tuning::export_w8a8(env, arguments.output, *loaded.model, tokenizer, arguments.ignore);
  }
  std::printf("exported %s\n", arguments.output.c_str());
  return 0;
}

}  // namespace

void add_export_command(CLI::App& app, Command& run) {
  static ExportArguments arguments;
  auto* command =
      app.add_subcommand("export", "Write a model as a Hugging Face folder, compressed or plain");
  command->add_option("model", arguments.model, "a Hugging Face folder or a .gguf file")
      ->required();
  command->add_option("--output", arguments.output, "the new folder")->required();
  command->add_option("--format", arguments.format, "w8a8 (compressed-tensors INT8) or bf16")
      ->check(CLI::IsMember({"w8a8", "bf16"}))
      ->capture_default_str();
  command->add_option("--ignore", arguments.ignore, "linear layers left in bfloat16")
      ->capture_default_str();
  command->footer("Example: deepseek-train export model.gguf --format bf16 --output model-bf16");
  command->callback(
      [&run] { run = [](Session& session) { return export_model(session, arguments); }; });
}

}  // namespace deepseek_train::cli
