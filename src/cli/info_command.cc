#include <CLI/CLI.hpp>
#include <cstdio>

#include "deepseek_train/core/version.h"
#include "deepseek_train/models/checkpoint.h"
#include "src/cli/commands.h"

namespace deepseek_train::cli {
namespace {

int show_info(Session& session, const std::string& path) {
  if (!session.is_lead()) return 0;
  auto checkpoint = models::open_checkpoint(posix_env(), path);
  const auto& config = checkpoint->config();
  const auto names = checkpoint->tensor_names();
  std::printf(
      "%s\n  architecture   llama, %ld layers, hidden %ld, %ld heads (%ld key-value), vocabulary "
      "%ld\n",
      path.c_str(), static_cast<long>(config.num_hidden_layers),
      static_cast<long>(config.hidden_size), static_cast<long>(config.num_attention_heads),
      static_cast<long>(config.num_key_value_heads), static_cast<long>(config.vocab_size));
  std::printf("  context        %ld positions\n  tensors        %zu\n  embeddings     %s\n",
              static_cast<long>(config.max_position_embeddings), names.size(),
              config.tie_word_embeddings ? "tied" : "untied");
  std::printf("  compression    %s\n  tokenizer      %s\n",
              checkpoint->quantization_config().empty() ? "none" : "compressed-tensors",
              checkpoint->tokenizer().sha256().c_str());
  return 0;
}

}  // namespace

void add_info_command(CLI::App& app, Command& run) {
  static std::string path;
  auto* command = app.add_subcommand("info", "What a model folder or GGUF file holds");
  command->add_option("model", path, "a Hugging Face folder or a .gguf file")->required();
  command->footer("Example: deepseek-train info models/SmolLM2-135M-Instruct.Q4_1.gguf");
  command->callback([&run] { run = [](Session& session) { return show_info(session, path); }; });
}

}  // namespace deepseek_train::cli
