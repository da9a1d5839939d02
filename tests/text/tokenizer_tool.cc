// For test_tokenizer.py: the tokenizer as a program.
//   tokenizer_tool MODEL encode           JSON strings on standard input, one a line; their ids as
//   JSON arrays tokenizer_tool MODEL encode-as-text   the same without parsing special tokens
//   tokenizer_tool MODEL decode           JSON arrays of ids; the text as JSON strings, bytes that
//   are no UTF-8 replaced tokenizer_tool MODEL write FOLDER     writes tokenizer.json and
//   tokenizer_config.json tokenizer_tool MODEL chat             JSON arrays of messages; JSON
//   arrays of [text, is_answer] tokenizer_tool MODEL time FILE        seconds to encode the file's
//   text, and the number of ids
// MODEL is a GGUF file or a folder with tokenizer.json.
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/gguf.h"
#include "deepseek_train/text/chat_format.h"
#include "deepseek_train/text/tokenizer.h"

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
  return model.ends_with(".gguf") ? tokenizer_of_gguf(model)
                                  : Tokenizer::from_folder(posix_env(), model);
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
  for (const auto& segment : format.render(parsed, true))
    segments.push_back({segment.text, segment.is_answer});
  return segments;
}

void time_encode(const Tokenizer& tokenizer, const std::string& path) {
  auto text = read_text(posix_env(), path);
  auto start = std::chrono::steady_clock::now();
  auto num_ids = tokenizer.encode(text).size();
  std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  std::cout << elapsed.count() << " " << num_ids << "\n";
}

void run(const std::vector<std::string>& arguments) {
  DST_CHECK(arguments.size() >= 2,
            "usage: tokenizer_tool MODEL encode|encode-as-text|decode|write|chat|time ...");
  auto tokenizer = load(arguments[0]);
  const auto& action = arguments[1];
  if (action == "encode" || action == "encode-as-text") {
    answer_lines([&](const Json& text) -> Json {
      return tokenizer.encode(text.get<std::string>(), action == "encode");
    });
  } else if (action == "decode") {
    answer_lines(
        [&](const Json& ids) -> Json { return tokenizer.decode(ids.get<std::vector<int32_t>>()); });
  } else if (action == "chat") {
    auto format = ChatFormat::of(tokenizer);
    answer_lines([&](const Json& messages) { return render(format, messages); });
  } else if (action == "write" && arguments.size() == 3) {
    write_text(posix_env(), join_path(arguments[2], "tokenizer.json"), tokenizer.to_json());
    write_text(posix_env(), join_path(arguments[2], "tokenizer_config.json"),
               tokenizer.config_json());
  } else if (action == "time" && arguments.size() == 3) {
    time_encode(tokenizer, arguments[2]);
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
