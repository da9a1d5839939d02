#include "deepseek_train/text/chat_format.h"

#include "deepseek_train/core/error.h"

namespace deepseek_train::text {
namespace {

constexpr std::string_view kStart = "<|im_start|>";
constexpr std::string_view kEnd = "<|im_end|>";

// The text that stands literally in the template between the markers of a system message; empty if
// none does. In a Jinja string the line's end is either itself or "\n" spelled out.
std::string find_default_system(std::string_view chat_template) {
  for (std::string_view opening : {"<|im_start|>system\n", "<|im_start|>system\\n"}) {
    for (size_t at = chat_template.find(opening); at != chat_template.npos;
         at = chat_template.find(opening, at + 1)) {
      auto rest = chat_template.substr(at + opening.size());
      auto literal = rest.substr(0, rest.find_first_of("'\"{"));
      size_t end = literal.find(kEnd);
      if (end != literal.npos && end > 0) return std::string(literal.substr(0, end));
    }
  }
  return "";
}

void append(std::vector<ChatSegment>& segments, std::string_view text, bool is_answer) {
  if (segments.empty() || segments.back().is_answer != is_answer)
    segments.push_back({"", is_answer});
  segments.back().text += text;
}

void append_message(std::vector<ChatSegment>& segments, std::string_view role,
                    std::string_view content) {
  append(segments, concat(kStart, role, "\n"), false);
  append(segments, concat(content, kEnd), role == "assistant");
  append(segments, "\n", false);
}

}  // namespace

ChatFormat ChatFormat::of(const Tokenizer& tokenizer) {
  DST_CHECK(tokenizer.id_of(kStart) && tokenizer.id_of(kEnd),
            "the tokenizer has no <|im_start|> and <|im_end|>: its chat "
            "format is not ChatML, the only one supported; its template begins \"",
            tokenizer.chat_template().substr(0, 60),
            "\". Give the data as prompt and answer instead");
  ChatFormat format;
  format.default_system_ = find_default_system(tokenizer.chat_template());
  return format;
}

std::vector<ChatSegment> ChatFormat::render(std::span<const ChatMessage> messages,
                                            bool add_generation_prompt) const {
  DST_CHECK(!messages.empty(), "a conversation has no messages");
  std::vector<ChatSegment> segments;
  if (messages.front().role != "system" && !default_system_.empty())
    append_message(segments, "system", default_system_);
  for (const auto& message : messages) {
    DST_CHECK(message.role == "system" || message.role == "user" || message.role == "assistant",
              "a message has the role \"", message.role, "\", wanted system, user or assistant");
    append_message(segments, message.role, message.content);
  }
  if (add_generation_prompt) append(segments, concat(kStart, "assistant\n"), false);
  return segments;
}

}  // namespace deepseek_train::text
