// TokenizerModel to and from Hugging Face's two files.
#pragma once

#include <string>
#include <string_view>

#include "src/text/tokenizer_model.h"

namespace deepseek_train::text {

// Throws DataCorruption or InvalidArgument as Tokenizer::from_json says.
TokenizerModel parse_tokenizer_json(std::string_view text);
// Adds the named tokens and the chat template of tokenizer_config.json.
void apply_tokenizer_config(std::string_view text, TokenizerModel& model);

std::string format_tokenizer_json(const TokenizerModel& model);
std::string format_tokenizer_config(const TokenizerModel& model);

}  // namespace deepseek_train::text
