// run, prepare, train: the commands that take a recipe.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "deepseek_train/core/env.h"
#include "deepseek_train/core/log.h"
#include "deepseek_train/tuning/job.h"
#include "src/cli/commands.h"
#include "src/cli/metrics_sinks.h"

namespace deepseek_train::cli {
namespace {

using Stage = std::function<int(Session&, const tuning::JobContext&)>;

// Reads the recipe, connects the ranks as it says, and runs the stage.
int run_stage(Session& session, const std::string& recipe_path, const Stage& stage) {
  const auto started = std::chrono::steady_clock::now();
  auto& env = posix_env();
  const auto recipe = tuning::load_recipe(env, recipe_path);
  auto& communicator = session.connect({.backend = recipe.communication.backend,
                                        .timeout_seconds = recipe.communication.timeout_seconds,
                                        .credentials = recipe.communication.credentials,
                                        .job = recipe.communication.job,
                                        .insecure_network = recipe.communication.insecure_network});
  if (session.is_lead()) env.make_folders(recipe.run_folder());
  communicator.barrier();
  RunSink metrics(session.is_lead(), recipe.training.max_steps + recipe.quantization.qat_steps,
                  join_path(recipe.run_folder(), "log.jsonl"));
  return stage(session, {recipe, env, communicator, metrics, stop_requested, started});
}

int stopped(Session& session, const std::string& recipe_path) {
  if (session.is_lead())
    std::printf("\nstopped; the same command goes on from here (recipe %s)\n", recipe_path.c_str());
  return kExitStopped;
}

}  // namespace

void add_job_commands(CLI::App& app, Command& run) {
  static std::string recipe_path;
  auto add = [&](const char* name, const char* description, Stage stage) {
    auto* command = app.add_subcommand(name, description);
    command->add_option("recipe", recipe_path, "the recipe, a YAML file")->required();
    command->callback([&run, stage] {
      run = [stage](Session& session) { return run_stage(session, recipe_path, stage); };
    });
    return command;
  };
  add("prepare", "Tokenize a recipe's training data into its token store",
      [](Session&, const tuning::JobContext& context) {
        tuning::prepare_data(context);
        return 0;
      });
  add("train", "Fine-tune and quantize; resumes a stopped run",
      [](Session& session, const tuning::JobContext& context) {
        return tuning::train(context) ? 0 : stopped(session, recipe_path);
      });
  add("run", "The whole job: prepare, train, export, evaluate, report",
      [](Session& session, const tuning::JobContext& context) {
        if (!tuning::train(context)) return stopped(session, recipe_path);
        auto report = tuning::evaluate_run(context);
        if (session.is_lead())
          std::printf("\n%s\nreport: %s/report.html (%.0f s in all)\n",
                      tuning::to_text(report).c_str(), context.recipe.run_folder().c_str(),
                      report.seconds);
        return 0;
      })
      ->footer("Example: mpirun -n 2 deepseek-train run examples/routing/quickstart.yaml");
}

}  // namespace deepseek_train::cli
