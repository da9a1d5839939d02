// Chat records (OpenAI chat, ShareGPT, Alpaca) in the format that a model's tokenizer was made for.
#pragma once

#include "deepseek_train/data/sources.h"
#include "deepseek_train/text/chat_format.h"
#include "deepseek_train/text/tokenizer.h"

namespace deepseek_train::tuning {

// Both keep a copy of the tokenizer, which is cheap, and look at its chat template when the first
// chat is rendered: data without chats needs none. They throw InvalidArgument what text::ChatFormat
// throws: for a tokenizer without a template, for what the template refuses or drops.

// For training: the whole conversation, with loss on every assistant's turn and its end token, and
// on reasoning as `think` says. Throws InvalidArgument also for a mask that selects nothing, or
// everything: text without a question is to be given as text.
data::RenderChat render_for_training(const text::Tokenizer& tokenizer,
                                     text::ThinkPolicy think = text::ThinkPolicy::kKeep);

// For scoring: all turns before the last are the prompt, up to where the answer begins; the
// last, which must be an assistant's, is the answer, without its end token as generation gives it.
data::RenderChat render_for_scoring(const text::Tokenizer& tokenizer);

}  // namespace deepseek_train::tuning
