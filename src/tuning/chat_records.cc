#include "deepseek_train/tuning/chat_records.h"

#include <algorithm>
#include <optional>

#include "deepseek_train/core/error.h"

namespace deepseek_train::tuning {
namespace {

// The tokenizer's chat format, looked up at its first use.
class LazyFormat {
 public:
  LazyFormat(const text::Tokenizer& tokenizer, text::ThinkPolicy think)
      : tokenizer_(tokenizer), think_(think) {}

  std::vector<text::ChatSegment> render(std::span<const data::Message> messages,
                                        bool add_generation_prompt) {
    if (!format_) format_ = text::ChatFormat::of(tokenizer_, {.think = think_});
    std::vector<text::ChatMessage> turns;
    for (const auto& message : messages) turns.push_back({message.role, message.content});
    return format_->render(turns, add_generation_prompt);
  }

 private:
  text::Tokenizer tokenizer_;
  text::ThinkPolicy think_;
  std::optional<text::ChatFormat> format_;
};

// A mask that takes all or nothing is a mistake in the data or the template, not a choice.
void check_mask(const std::vector<data::Segment>& segments) {
  const auto num_answers = std::count_if(segments.begin(), segments.end(),
                                         [](const data::Segment& segment) { return segment.loss; });
  DST_CHECK(num_answers > 0,
            "the loss mask of this chat selects nothing: it has no assistant's turn with content "
            "to learn; remove the record, or keep its reasoning (data.think)");
  DST_CHECK(
      static_cast<size_t>(num_answers) < segments.size(),
      "the loss mask of this chat selects everything: there is no turn to answer; to train on "
      "all of a text give it as {\"text\": ...}");
}

}  // namespace

data::RenderChat render_for_training(const text::Tokenizer& tokenizer, text::ThinkPolicy think) {
  return
      [format = LazyFormat(tokenizer, think)](const std::vector<data::Message>& messages) mutable {
        std::vector<data::Segment> segments;
        for (auto& segment : format.render(messages, /*add_generation_prompt=*/false))
          segments.push_back({std::move(segment.text), segment.is_answer});
        check_mask(segments);
        return segments;
      };
}

data::RenderChat render_for_scoring(const text::Tokenizer& tokenizer) {
  return [format = LazyFormat(tokenizer, text::ThinkPolicy::kKeep)](
             const std::vector<data::Message>& messages) mutable {
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
