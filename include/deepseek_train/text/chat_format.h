// Chat messages to the text a model was tuned on, with the parts it is to answer marked.
#pragma once

#include <ctime>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "deepseek_train/text/tokenizer.h"

namespace deepseek_train::text {

// As in OpenAI's chat format: roles "system", "user", "assistant", "tool".
struct ChatMessage {
  std::string role;
  std::string content;
};

// Segments are to be tokenized one by one: then an answer's first token does not depend on how its
// border merges, in training as in generation.
struct ChatSegment {
  std::string text;
  // Text the model is to produce: the loss is taken on it.
  bool is_answer = false;
};

// What becomes of the reasoning "<think>...</think>" in an assistant's content.
enum class ThinkPolicy {
  kKeep,  // it trains like the rest of the answer
  kMask,  // the model reads it, no loss is taken on it
  kDrop,  // it is removed before the template sees it
};
// "keep", "mask", "drop"; InvalidArgument for others.
ThinkPolicy parse_think_policy(std::string_view name);

struct ChatOptions {
  ThinkPolicy think = ThinkPolicy::kKeep;
  // The time that templates are told which put the date into the prompt (strftime_now). Without it
  // they take their own default, or are refused: then a rendering does not depend on the day.
  std::optional<std::time_t> now;
};

// The tokenizer's own chat template: Jinja, in the subset that real templates use (see
// docs/tokenizers.md). Immutable, thread-safe, cheap to copy.
class ChatFormat {
 public:
  // Throws InvalidArgument for a tokenizer without a template, and for a template that uses what is
  // not supported, by its name and line.
  static ChatFormat of(const Tokenizer& tokenizer, const ChatOptions& options = {});

  // The text is the template's, byte for byte. Which bytes are answers follows from where they come
  // from: every byte that the template copies from a message stays marked with that message through
  // all that the template does to it. An answer is an assistant's content, with what the template
  // itself adds after the prompt for an answer (an opening "<think>") and up to the end-of-turn
  // token; if the template has {% generation %} blocks, it is what they wrote.
  //
  // The last turn's reasoning is kept even where the template strips it as it does from earlier
  // turns (DeepSeek-R1's), for it is what the model has to learn; that of earlier turns is what the
  // template makes of it, as when the model is used.
  //
  // With `add_generation_prompt` the text ends where the next answer begins. Throws InvalidArgument
  // for no message, for a template that refuses the conversation, and for one that drops a turn or
  // a part of it: what is lost would be missing in training without a trace.
  std::vector<ChatSegment> render(std::span<const ChatMessage> messages,
                                  bool add_generation_prompt = false) const;

 private:
  class Impl;
  explicit ChatFormat(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

  std::shared_ptr<const Impl> impl_;
};

}  // namespace deepseek_train::text
