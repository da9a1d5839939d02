// For the Python tests: the tokenizer and the chat templates as a program. One JSON value a line on
// standard input, one answer a line. MODEL is a GGUF file, a .tiktoken file (split as Llama 3's) or
// a folder with tokenizer.json.
//   tokenizer_tool MODEL encode          a string -> its ids
//   tokenizer_tool MODEL encode-as-text  the same without parsing special tokens
//   tokenizer_tool MODEL decode          ids -> the text; bytes that are no UTF-8 are replaced
//   tokenizer_tool MODEL write FOLDER    writes tokenizer.json and tokenizer_config.json
//   tokenizer_tool MODEL chat [THINK]    messages -> [[text, is_answer], ...], with a prompt for an
//                                        answer after a turn that is not the assistant's
//   tokenizer_tool FILE render           a template's variables -> {"text": ...} or {"error": ...}
#include <iostream>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/gguf.h"
#include "deepseek_train/text/chat_format.h"
#include "deepseek_train/text/tokenizer.h"
#include "src/text/jinja/json.h"
#include "src/text/jinja/template.h"

namespace deepseek_train::text {
namespace {

using Json = nlohmann::json;

Tokenizer tokenizer_of_gguf(const std::string& path) {
  formats::GgufFile file(posix_env(), path);
  auto id = [&](const char* key) {
    return file.find_metadata(key) ? std::optional(static_cast<int32_t>(file.get_uint(key)))
                                   : std::nullopt;
  };
  const auto& types = file.get_ints("tokenizer.ggml.token_type");
  return Tokenizer::from_vocabulary({.tokens = file.get_strings("tokenizer.ggml.tokens"),
                                     .token_types = {types.begin(), types.end()},
                                     .merges = file.get_strings("tokenizer.ggml.merges"),
                                     .pre = file.get_string("tokenizer.ggml.pre"),
                                     .bos_id = id("tokenizer.ggml.bos_token_id"),
                                     .eos_id = id("tokenizer.ggml.eos_token_id"),
                                     .pad_id = id("tokenizer.ggml.padding_token_id"),
                                     .add_bos = file.get_bool("tokenizer.ggml.add_bos_token"),
                                     .chat_template = file.get_string("tokenizer.chat_template"),
                                     .model_max_length = 8192});
}

Tokenizer load(const std::string& model) {
  if (model.ends_with(".gguf")) return tokenizer_of_gguf(model);
  if (model.ends_with(".tiktoken")) return Tokenizer::from_file(posix_env(), model, "llama-bpe");
  return Tokenizer::from_folder(posix_env(), model);
}

template <typename Answer>
void answer_lines(Answer answer) {
  for (std::string line; std::getline(std::cin, line);)
    std::cout << answer(Json::parse(line)).dump(-1, ' ', true, Json::error_handler_t::replace)
              << "\n";
}

Json render(const ChatFormat& format, const Json& messages) {
  std::vector<ChatMessage> parsed;
  for (const auto& message : messages)
    parsed.push_back({message.at("role"), message.at("content")});
  Json segments = Json::array();
  try {
    for (const auto& segment : format.render(parsed, parsed.back().role != "assistant"))
      segments.push_back({segment.text, segment.is_answer});
  } catch (const InvalidArgument& error) {
    return {{"error", error.what()}};
  }
  return segments;
}

// The variables of one rendering; "now" is the time in seconds, if the template may ask for it.
Json render_template(const jinja::Template& chat_template,
                     const nlohmann::ordered_json& variables) {
  std::optional<std::time_t> now;
  if (variables.contains("now")) now = variables.at("now").get<std::time_t>();
  auto globals = jinja::standard_globals(now);
  for (const auto& [name, value] : variables.items())
    if (name != "now") globals.emplace_back(name, jinja::value_of_json(value));
  try {
    return {{"text", chat_template.render(globals).text.bytes()}};
  } catch (const InvalidArgument& error) {
    return {{"error", error.what()}};
  }
}

void render_lines(const std::string& path) {
  const jinja::Template chat_template(read_text(posix_env(), path));
  for (std::string line; std::getline(std::cin, line);)
    std::cout << render_template(chat_template, nlohmann::ordered_json::parse(line)).dump() << "\n";
}

void run(const std::vector<std::string>& arguments) {
  DST_CHECK(arguments.size() >= 2,
            "usage: tokenizer_tool MODEL encode|encode-as-text|decode|write|chat|render ...");
  const auto& action = arguments[1];
  if (action == "render") return render_lines(arguments[0]);
  auto tokenizer = load(arguments[0]);
  if (action == "encode" || action == "encode-as-text") {
    answer_lines([&](const Json& text) -> Json {
      return tokenizer.encode(text.get<std::string>(), action == "encode");
    });
  } else if (action == "decode") {
    answer_lines(
        [&](const Json& ids) -> Json { return tokenizer.decode(ids.get<std::vector<int32_t>>()); });
  } else if (action == "chat") {
    const auto think = parse_think_policy(arguments.size() > 2 ? arguments[2] : "keep");
    auto format = ChatFormat::of(tokenizer, {.think = think});
    answer_lines([&](const Json& messages) { return render(format, messages); });
  } else if (action == "write" && arguments.size() == 3) {
    write_text(posix_env(), join_path(arguments[2], "tokenizer.json"), tokenizer.to_json());
    write_text(posix_env(), join_path(arguments[2], "tokenizer_config.json"),
               tokenizer.config_json());
  } else {
    throw InvalidArgument("unknown action " + action);
  }
}

}  // namespace
}  // namespace deepseek_train::text

int main(int argc, char** argv) {
  try {
    deepseek_train::text::run({argv + 1, argv + argc});
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
