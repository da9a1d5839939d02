#include "deepseek_train/tuning/chat_records.h"

#include <optional>

#include "deepseek_train/core/error.h"
#include "deepseek_train/text/chat_format.h"

namespace deepseek_train::tuning {
namespace {

// The tokenizer's chat format, looked up at its first use.
class LazyFormat {
 public:
  explicit LazyFormat(const text::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  std::vector<text::ChatSegment> render(std::span<const data::Message> messages,
                                        bool add_generation_prompt) {
    if (!format_) format_ = text::ChatFormat::of(tokenizer_);
    std::vector<text::ChatMessage> turns;
    for (const auto& message : messages) turns.push_back({message.role, message.content});
    return format_->render(turns, add_generation_prompt);
  }

 private:
  text::Tokenizer tokenizer_;
  std::optional<text::ChatFormat> format_;
};

}  // namespace

data::RenderChat render_for_training(const text::Tokenizer& tokenizer) {
  return [format = LazyFormat(tokenizer)](const std::vector<data::Message>& messages) mutable {
    std::vector<data::Segment> segments;
    for (auto& segment : format.render(messages, /*add_generation_prompt=*/false))
      segments.push_back({std::move(segment.text), segment.is_answer});
    return segments;
  };
}

data::RenderChat render_for_scoring(const text::Tokenizer& tokenizer) {
  return [format = LazyFormat(tokenizer)](const std::vector<data::Message>& messages) mutable {
    DST_CHECK(messages.size() >= 2 && messages.back().role == "assistant", "a chat of ",
              messages.size(), " turns that ends with the role \"",
              messages.empty() ? "" : messages.back().role,
              "\"; a test record needs a question before the assistant's last turn");
    std::string prompt;
    const auto turns = std::span(messages).first(messages.size() - 1);
    for (const auto& segment : format.render(turns, /*add_generation_prompt=*/true))
      prompt += segment.text;
    return std::vector<data::Segment>{{std::move(prompt), false}, {messages.back().content, true}};
  };
}

}  // namespace deepseek_train::tuning
