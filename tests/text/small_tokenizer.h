// A vocabulary small enough to work out ids by hand.
#pragma once

#include <string>
#include <vector>

#include "deepseek_train/text/tokenizer.h"
#include "src/text/byte_alphabet.h"

namespace deepseek_train::text {

// Ids 0..255 are the bytes; then "th", "the", " the" (the space is part of it), "12"; then the
// control tokens below.
constexpr int32_t kTh = 256, kThe = 257, kSpaceThe = 258, kTwelve = 259, kEnd = 260, kStart = 261,
                  kUser = 262;

constexpr const char* kChatMl =
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + "
    "'<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% endif %}";

inline BpeVocabulary small_vocabulary() {
  BpeVocabulary vocabulary;
  for (int byte = 0; byte < 256; ++byte)
    vocabulary.tokens.push_back(byte_char(static_cast<unsigned char>(byte)));
  for (const char* token : {"th", "the", "Ġthe", "12", "<|im_end|>", "<|im_start|>", "<user>"})
    vocabulary.tokens.push_back(token);
  vocabulary.token_types.assign(vocabulary.tokens.size(), 1);
  vocabulary.token_types[kEnd] = vocabulary.token_types[kStart] = 3;
  vocabulary.token_types[kUser] = 4;
  vocabulary.merges = {"t h", "th e", "Ġ the", "1 2"};
  vocabulary.pre = "gpt-2";
  vocabulary.bos_id = kStart;
  vocabulary.eos_id = kEnd;
  vocabulary.chat_template = kChatMl;
  return vocabulary;
}

}  // namespace deepseek_train::text
