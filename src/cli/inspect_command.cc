#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "deepseek_train/core/env.h"
#include "deepseek_train/core/strings.h"
#include "deepseek_train/models/checkpoint.h"
#include "deepseek_train/tuning/sample.h"
#include "src/cli/commands.h"

namespace deepseek_train::cli {
namespace {

struct InspectArguments {
  std::string recipe, color = "auto";
  int64_t record = 1;
};

// How what is trained on is set apart: by colour, or by brackets where there is none.
struct Marks {
  std::string begin, end;
};

Marks marks_for(const std::string& color) {
  const bool colored = color == "always" || (color == "auto" && ::isatty(STDOUT_FILENO) == 1);
  return colored ? Marks{"\x1b[1;32m", "\x1b[0m"} : Marks{"[[", "]]"};
}

// Data may hold sequences that steer a terminal: control characters are spelled out.
std::string printable(const std::string& text) {
  std::string result;
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte >= 0x20 && byte != 0x7f) || c == '\n' || c == '\t') {
      result += c;
    } else {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\x%02x", byte);
      result += escape;
    }
  }
  return result;
}

std::string marked_text(const data::Document& document, const text::Tokenizer& tokenizer,
                        const Marks& marks) {
  const std::vector<int32_t> ids(document.tokens.begin(), document.tokens.end());
  auto decode = [&](int64_t begin, int64_t end) {
    return printable(tokenizer.decode(
        std::span(ids).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin))));
  };
  std::string text;
  int64_t done = 0;
  for (const auto& span : document.loss_spans) {
    text += decode(done, span.begin) + marks.begin + decode(span.begin, span.end) + marks.end;
    done = span.end;
  }
  return text + decode(done, static_cast<int64_t>(ids.size()));
}

int inspect(Session& session, const InspectArguments& arguments) {
  if (!session.is_lead()) return 0;
  auto& env = posix_env();
  const auto recipe = tuning::load_recipe(env, arguments.recipe);
  const auto tokenizer = models::open_checkpoint(env, recipe.model_name_or_path)->tokenizer();
  const auto sample = tuning::read_sample(env, recipe, tokenizer, arguments.record - 1);
  std::printf("%s, record %ld of %ld: %zu tokens%s, %ld trained on (marked)\n\n%s\n",
              sample.place.c_str(), static_cast<long>(arguments.record),
              static_cast<long>(sample.num_records), sample.document.tokens.size(),
              sample.truncated ? " (cut to max_length)" : "",
              static_cast<long>(data::num_loss_tokens(sample.document)),
              marked_text(sample.document, tokenizer, marks_for(arguments.color)).c_str());
  return 0;
}

}  // namespace

void add_inspect_command(CLI::App& app, Command& run) {
  static InspectArguments arguments;
  auto* command = app.add_subcommand(
      "inspect", "One training record as the model gets it, what it is trained on in colour");
  command->add_option("recipe", arguments.recipe, "the recipe, a YAML file")->required();
  command->add_option("--record", arguments.record, "which record, from 1")->capture_default_str();
  command->add_option("--color", arguments.color, "auto, always, or never: [[brackets]]")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->capture_default_str();
  command->footer("Example: deepseek-train inspect examples/routing/quickstart.yaml --record 3");
  command->callback([&run] { run = [](Session& session) { return inspect(session, arguments); }; });
}

}  // namespace deepseek_train::cli
