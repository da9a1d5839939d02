// Text files of the formats people have, as a stream of records.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek_train/core/env.h"

namespace deepseek_train::data {

// A piece of a record's text. `loss`: the model is trained to write it.
struct Segment {
  std::string text;
  bool loss = false;
  bool operator==(const Segment&) const = default;
};

struct TextRecord {
  std::vector<Segment> segments;
  std::string place;  // "train.jsonl:17", for errors
};

// One turn of a chat. Roles are "system", "user", "assistant" and "tool".
struct Message {
  std::string role;
  std::string content;
  bool operator==(const Message&) const = default;
};

// Writes a chat the way a model expects it; the assistant's turns carry the loss. The model's chat
// template decides (tuning/chat_records.h). Its InvalidArgument gets the record's place put before.
using RenderChat = std::function<std::vector<Segment>(const std::vector<Message>&)>;

enum class SourceFormat { kAuto, kText, kJsonl, kCsv };
// "auto", "text", "jsonl", "csv"; InvalidArgument names the nearest.
SourceFormat parse_source_format(std::string_view name);

enum class TextUnit { kParagraph, kFile };

struct SourceOptions {
  std::vector<std::string> paths;
  // kAuto goes by the name: .txt .text .md are text, .jsonl .ndjson are JSONL, .csv is CSV.
  SourceFormat format = SourceFormat::kAuto;
  // What a record of a text file is: paragraphs lie between blank lines.
  TextUnit text_unit = TextUnit::kParagraph;
  // For JSONL and CSV: text with {field} placeholders ({{ and }} are braces). The loss is on the
  // answer alone. Without an answer template JSONL shapes are recognized by their fields; CSV needs
  // one.
  std::string prompt_template;
  std::string answer_template;
  // For chat shapes; without it they are refused.
  RenderChat render_chat;
};

// Calls `visit` for every record of every path, in order. Recognized shapes of JSONL, by the first
// line of each file:
//   {"messages": [{"role", "content"}]}                       OpenAI chat        -> render_chat
//   {"conversations": [{"from", "value"}], "system"?}         ShareGPT           -> render_chat
//   {"instruction", "output", "input"?, "system"?, "history"?}  Alpaca           -> render_chat
//   {"prompt", "completion"}                                  loss on the completion
//   {"text"}                                                  loss on all of it
// CSV is RFC 4180 with a header row. Text must be UTF-8; a byte order mark is skipped. Every record
// has a segment with loss that is not empty. Errors are InvalidArgument and name file, line and
// field (with the nearest one that exists); they come after the records before them were visited,
// so commit nothing until this function has returned. Streams: memory for one record.
void for_each_record(Env& env, const SourceOptions& options,
                     const std::function<void(const TextRecord&)>& visit);

}  // namespace deepseek_train::data
