// Reads off a rendered conversation which bytes the model is to produce.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "deepseek_train/text/chat_format.h"
#include "src/text/jinja/context.h"

namespace deepseek_train::text {

// The reasoning in an assistant's content: from "<think>", or the content's begin where the prompt
// had opened it, to after "</think>". Empty if there is none.
jinja::ByteRange find_thinking(std::string_view content);

// Immutable and thread-safe.
class AnswerFinder {
 public:
  // `generation_prompt`: what the template writes where an answer begins. A turn ends with the eos
  // token if it has one (may be empty), else with the first of the special tokens in it.
  AnswerFinder(std::string generation_prompt, std::string eos, std::vector<std::string> special)
      : generation_prompt_(std::move(generation_prompt)),
        eos_(std::move(eos)),
        special_(std::move(special)) {}

  // In order, without overlap. `messages` are the ones that were rendered.
  std::vector<jinja::ByteRange> find(const jinja::Rendering& rendering,
                                     std::span<const ChatMessage> messages) const;

 private:
  jinja::ByteRange extend(const jinja::Rendering& rendering, jinja::ByteRange content,
                          int32_t message, size_t after) const;

  // Bytes of `tail` up to the end of the token that ends the turn; 0 if there is none.
  size_t end_of_turn(std::string_view tail) const;

  std::string generation_prompt_;
  std::string eos_;
  std::vector<std::string> special_;
};

// Throws InvalidArgument naming the turn if the rendering lacks a message or a part of one, white
// space and reasoning aside.
void check_nothing_dropped(const jinja::Rendering& rendering,
                           std::span<const ChatMessage> messages);
// Whether bytes of `range` of the message's content, other than white space, are missing.
bool is_dropped(const jinja::Rendering& rendering, int32_t message, const std::string& content,
                jinja::ByteRange range);

}  // namespace deepseek_train::text
