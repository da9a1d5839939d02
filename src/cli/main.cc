#include <CLI/CLI.hpp>

#include "deepseek_train/core/version.h"
#include "src/cli/commands.h"

int main(int argc, char** argv) {
  using namespace deepseek_train;
  CLI::App app(
      "Turns a pretrained model and your own data into a compressed, verified model, on your own "
      "machines.");
  app.set_version_flag("--version", std::string(version()));
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  mpirun -n 2 deepseek-train run examples/routing/quickstart.yaml    the whole job; run "
      "again to resume\n"
      "  deepseek-train evaluate runs/quickstart/export/w8a8 --text notes.txt --json\n"
      "  deepseek-train generate runs/quickstart/export/bf16 --prompt 'Software: plays "
      "chess\\nSection:'\n"
      "  deepseek-train info model.gguf\n"
      "  deepseek-train inspect examples/routing/quickstart.yaml            a record with its loss "
      "mask");
  cli::Command run;
  cli::add_job_commands(app, run);
  cli::add_evaluate_command(app, run);
  cli::add_export_command(app, run);
  cli::add_generate_command(app, run);
  cli::add_info_command(app, run);
  cli::add_inspect_command(app, run);
  cli::add_tokenize_command(app, run);
  CLI11_PARSE(app, argc, argv);
  return cli::Session().run(run);
}
