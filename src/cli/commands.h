// The program's commands. Each adds itself to the parser; the one the user named sets `run`.
#pragma once

#include <functional>

#include "src/cli/session.h"

namespace CLI {
class App;
}

namespace deepseek_train::cli {

using Command = std::function<int(Session&)>;

void add_job_commands(CLI::App& app, Command& run);  // run, prepare, train
void add_evaluate_command(CLI::App& app, Command& run);
void add_export_command(CLI::App& app, Command& run);
void add_generate_command(CLI::App& app, Command& run);
void add_info_command(CLI::App& app, Command& run);
void add_inspect_command(CLI::App& app, Command& run);
void add_tokenize_command(CLI::App& app, Command& run);

}  // namespace deepseek_train::cli
