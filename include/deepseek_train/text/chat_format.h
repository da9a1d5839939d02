// Chat messages to the text a model was tuned on, with the parts it is to answer marked.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "deepseek_train/text/tokenizer.h"

namespace deepseek_train::text {

// As in OpenAI's chat format: roles "system", "user", "assistant".
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

// The ChatML format: "<|im_start|>role\ncontent<|im_end|>\n" for each message (SmolLM2, Qwen).
// Immutable, thread-safe.
class ChatFormat {
 public:
  // Takes the default system message from the tokenizer's chat template. Throws InvalidArgument for
  // a tokenizer without
  // <|im_start|> and <|im_end|>, naming how its template begins: other formats need a Jinja
  // interpreter.
  static ChatFormat of(const Tokenizer& tokenizer);

  // An answer is an assistant's content with its <|im_end|>; everything between answers is one
  // segment. With `add_generation_prompt` the last segment ends where the next answer begins.
  // Throws InvalidArgument for an unknown role or no message.
  std::vector<ChatSegment> render(std::span<const ChatMessage> messages,
                                  bool add_generation_prompt = false) const;

  // Put before conversations that have no system message; empty for none.
  const std::string& default_system() const { return default_system_; }

 private:
  std::string default_system_;
};

}  // namespace deepseek_train::text
