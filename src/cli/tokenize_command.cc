#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/env.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/text/tokenizer.h"
#include "src/cli/commands.h"

namespace deepseek_train::cli {
namespace {

struct TokenizeArguments {
  std::string tokenizer, file, pre;
};

std::string text_of_line(const TokenizeArguments& arguments, std::string_view line,
                         int64_t number) {
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  const bool has_text = json.is_object() && json.contains("text") && json["text"].is_string();
  DST_CHECK(has_text, arguments.file, ":", number, ": wanted a JSON object with a string \"text\"");
  return json["text"];
}

std::string list_text(const std::vector<int32_t>& ids) {
  std::string text = "[";
  for (int32_t id : ids) text.append(text.size() == 1 ? "" : ", ").append(std::to_string(id));
  return text + "]\n";
}

int tokenize_file(Session& session, const TokenizeArguments& arguments) {
  if (!session.is_lead()) return 0;
  const auto tokenizer =
      text::Tokenizer::from_file(posix_env(), arguments.tokenizer, arguments.pre);
  const auto content = read_text(posix_env(), arguments.file);
  int64_t number = 0;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = std::min(content.find('\n', begin), content.size());
    const auto line = std::string_view(content).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const auto ids = list_text(tokenizer.encode(text_of_line(arguments, line, number)));
    std::fwrite(ids.data(), 1, ids.size(), stdout);
  }
  return 0;
}

}  // namespace

void add_tokenize_command(CLI::App& app, Command& run) {
  static TokenizeArguments arguments;
  auto* command = app.add_subcommand(
      "tokenize", "Token ids of texts, one JSON list a line; no token is added at either end");
  command->add_option("tokenizer", arguments.tokenizer, "tokenizer.json or a .tiktoken file")
      ->required();
  command->add_option("file", arguments.file, "JSON lines with the key text")->required();
  command->add_option("--pre", arguments.pre,
                      "how a .tiktoken file's tokenizer splits text: qwen2, llama-bpe, ...");
  command->footer("Example: deepseek-train tokenize model/tokenizer.json texts.jsonl");
  command->callback(
      [&run] { run = [](Session& session) { return tokenize_file(session, arguments); }; });
}

}  // namespace deepseek_train::cli
