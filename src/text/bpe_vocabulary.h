// TokenizerModel from a GGUF file's vocabulary.
#pragma once

#include "deepseek_train/text/tokenizer.h"
#include "src/text/tokenizer_model.h"

namespace deepseek_train::text {

// Throws as Tokenizer::from_vocabulary says.
TokenizerModel model_of_vocabulary(BpeVocabulary vocabulary);

}  // namespace deepseek_train::text
