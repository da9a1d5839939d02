#include "deepseek_train/text/chat_format.h"

#include <algorithm>

#include "deepseek_train/core/error.h"
#include "src/text/answer_finder.h"
#include "src/text/jinja/template.h"

namespace deepseek_train::text {
namespace {

using jinja::ByteRange;
using Messages = std::vector<ChatMessage>;

constexpr std::string_view kThinkTag = "think>";  // of <think> and </think>

// Where a template strips reasoning, its tags are hidden from it behind a byte that no text has.
constexpr char kHidden = '\x01';

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != text.npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

// Same length, so that every byte keeps its place.
void hide_thinking(std::string& content) {
  DST_CHECK(content.find(kHidden) == content.npos,
            "an assistant's content with <think> holds the control character U+0001; remove it");
  replace_all(content, concat("<", kThinkTag), concat(std::string(1, kHidden), kThinkTag));
  replace_all(content, concat("</", kThinkTag), concat(std::string(1, kHidden), "/", kThinkTag));
}

std::string show_thinking(std::string text) {
  replace_all(text, concat(std::string(1, kHidden), kThinkTag), concat("<", kThinkTag));
  replace_all(text, concat(std::string(1, kHidden), "/", kThinkTag), concat("</", kThinkTag));
  return text;
}

void drop_thinking(std::string& content) {
  const ByteRange thinking = find_thinking(content);
  if (thinking.end == 0) return;
  content.erase(thinking.begin, thinking.end - thinking.begin);
  content.erase(0, std::min(content.find_first_not_of("\n\r\t "), content.size()));
}

jinja::Value messages_value(std::span<const ChatMessage> messages) {
  jinja::List list;
  for (const auto& message : messages) {
    jinja::Map map;
    map.message = static_cast<int32_t>(list.items.size());
    map.set("role", message.role);
    map.set("content", jinja::MarkedText::of_message(message.content, map.message));
    list.items.emplace_back(std::move(map));
  }
  return list;
}

// The names of the special tokens that templates use, as transformers passes them.
void add_token_names(const Tokenizer& tokenizer, jinja::Globals& globals) {
  auto add = [&](const char* name, std::optional<int32_t> id) {
    if (id) globals.emplace_back(name, tokenizer.token(*id));
  };
  add("bos_token", tokenizer.bos_id());
  add("eos_token", tokenizer.eos_id());
  add("pad_token", tokenizer.pad_id());
}

// What may end a turn: the eos token, else whichever special token comes first.
std::vector<std::string> special_tokens_of(const Tokenizer& tokenizer) {
  std::vector<std::string> tokens;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id)
    if (tokenizer.is_special(id)) tokens.push_back(tokenizer.token(id));
  return tokens;
}

void append(std::vector<ChatSegment>& segments, std::string_view text, bool is_answer) {
  if (text.empty()) return;
  if (segments.empty() || segments.back().is_answer != is_answer)
    segments.push_back({"", is_answer});
  segments.back().text += text;
}

std::vector<ChatSegment> cut(std::string_view text, const std::vector<ByteRange>& answers,
                             bool mask_thinking) {
  std::vector<ChatSegment> segments;
  size_t done = 0;
  for (const ByteRange& answer : answers) {
    append(segments, text.substr(done, answer.begin - done), false);
    const auto answer_text = text.substr(answer.begin, answer.end - answer.begin);
    const ByteRange thinking = mask_thinking ? find_thinking(answer_text) : ByteRange{};
    append(segments, answer_text.substr(0, thinking.begin), true);
    append(segments, answer_text.substr(thinking.begin, thinking.end - thinking.begin), false);
    append(segments, answer_text.substr(thinking.end), true);
    done = answer.end;
  }
  append(segments, text.substr(done), false);
  return segments;
}

}  // namespace

class ChatFormat::Impl {
 public:
  Impl(const Tokenizer& tokenizer, const ChatOptions& options)
      : chat_template_(tokenizer.chat_template()),
        options_(options),
        globals_(jinja::standard_globals(options.now)) {
    globals_.emplace_back("tools", jinja::Value::None{});
    globals_.emplace_back("documents", jinja::Value::None{});
    add_token_names(tokenizer, globals_);
    auto end_tokens = special_tokens_of(tokenizer);
    eos_ = tokenizer.eos_id() ? tokenizer.token(*tokenizer.eos_id()) : "";
    finder_.emplace(find_generation_prompt(), eos_, std::move(end_tokens));
  }

  std::vector<ChatSegment> render(Messages messages, bool add_generation_prompt) const {
    for (auto& message : messages)
      if (options_.think == ThinkPolicy::kDrop && message.role == "assistant")
        drop_thinking(message.content);
    auto rendering = run(messages, add_generation_prompt);
    if (strips_last_thinking(rendering, messages)) {
      protect_thinking(messages.back().content);
      rendering = run(messages, add_generation_prompt);
    }
    check_nothing_dropped(rendering, messages);
    rendering.text = rendering.text.map_bytes(show_thinking(rendering.text.bytes()));
    return cut(rendering.text.bytes(), finder_->find(rendering, messages),
               options_.think == ThinkPolicy::kMask);
  }

 private:
  jinja::Rendering run(std::span<const ChatMessage> messages, bool add_generation_prompt) const {
    auto globals = globals_;
    globals.emplace_back("messages", messages_value(messages));
    globals.emplace_back("add_generation_prompt", add_generation_prompt);
    return chat_template_.render(globals);
  }

  // What the template adds when the model is to answer; empty if it cannot be told.
  std::string find_generation_prompt() const {
    const Messages probe = {{"user", "?"}};
    try {
      const auto with = run(probe, true).text.bytes(), without = run(probe, false).text.bytes();
      return with.starts_with(without) ? with.substr(without.size()) : "";
    } catch (const InvalidArgument&) {
      return "";  // it refuses this conversation, not necessarily all others
    }
  }

  static bool strips_last_thinking(const jinja::Rendering& rendering, const Messages& messages) {
    const auto& [role, content] = messages.back();
    if (role != "assistant") return false;
    ByteRange thinking = find_thinking(content);
    if (thinking.end == 0) return false;
    // The tags themselves may be written anew.
    if (content.substr(thinking.begin).starts_with("<think>")) thinking.begin += 7;
    thinking.end -= 8;
    return is_dropped(rendering, static_cast<int32_t>(messages.size() - 1), content, thinking);
  }

  static void protect_thinking(std::string& content) {
    if (content.find("<think>") > content.find("</think>")) content.insert(0, "<think>\n");
    hide_thinking(content);
  }

  jinja::Template chat_template_;
  ChatOptions options_;
  jinja::Globals globals_;
  std::string eos_;
  std::optional<AnswerFinder> finder_;
};

ThinkPolicy parse_think_policy(std::string_view name) {
  if (name == "keep") return ThinkPolicy::kKeep;
  if (name == "mask") return ThinkPolicy::kMask;
  DST_CHECK(name == "drop", "what to do with <think> is \"", name, "\", wanted keep, mask or drop");
  return ThinkPolicy::kDrop;
}

ChatFormat ChatFormat::of(const Tokenizer& tokenizer, const ChatOptions& options) {
  DST_CHECK(!tokenizer.chat_template().empty(),
            "the tokenizer has no chat template; put the model's chat_template.jinja into its "
            "folder, or give the data as prompt and answer");
  return ChatFormat(std::make_shared<const Impl>(tokenizer, options));
}

std::vector<ChatSegment> ChatFormat::render(std::span<const ChatMessage> messages,
                                            bool add_generation_prompt) const {
  DST_CHECK(!messages.empty(), "a conversation has no messages");
  return impl_->render(Messages(messages.begin(), messages.end()), add_generation_prompt);
}

}  // namespace deepseek_train::text
