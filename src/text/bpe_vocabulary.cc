#include "src/text/bpe_vocabulary.h"

#include <unordered_set>

#include "deepseek_train/core/error.h"
#include "src/text/tokenizer_patterns.h"

namespace deepseek_train::text {
namespace {

// GGUF's token types that are matched before splitting.
constexpr int kControl = 3;
constexpr int kUserDefined = 4;

constexpr const char* kKnownNames =
    "smollm, gpt-2, qwen2, deepseek-r1-qwen, llama-bpe, deepseek-v3";

// What llama.cpp's name for a pre-tokenizer stands for in Hugging Face's terms.
void set_pipeline(const std::string& pre, TokenizerModel& model) {
  auto split = [&](std::string_view pattern) {
    model.pre_tokenizer.emplace_back(SplitStep{.pattern = std::string(pattern)});
  };
  bool gpt2_regex = false;
  if (pre == "smollm") {
    model.pre_tokenizer.emplace_back(DigitsStep{.individual = true});
    gpt2_regex = true;
  } else if (pre == "gpt-2") {
    gpt2_regex = true;
  } else if (pre == "qwen2" || pre == "deepseek-r1-qwen") {
    model.nfc = true;
    split(kQwen2Pattern);
  } else if (pre == "llama-bpe") {
    model.ignore_merges = true;
    split(kLlama3Pattern);
  } else if (pre == "deepseek-v3") {
    for (auto pattern : {kDigitGroupsPattern, kChinesePattern, kDeepSeekV3Pattern}) split(pattern);
  } else {
    throw InvalidArgument(concat("the GGUF file's pre-tokenizer is \"", pre, "\"; known: ",
                                 kKnownNames, "; use a model folder with tokenizer.json instead"));
  }
  model.pre_tokenizer.emplace_back(
      ByteLevelStep{.add_prefix_space = false, .use_regex = gpt2_regex});
}

void check_tokens(const BpeVocabulary& vocabulary) {
  const auto& tokens = vocabulary.tokens;
  DST_CHECK(!tokens.empty(), "the tokenizer's vocabulary is empty");
  DST_CHECK(vocabulary.token_types.empty() || vocabulary.token_types.size() == tokens.size(),
            "the vocabulary has ", tokens.size(), " tokens and ", vocabulary.token_types.size(),
            " token types; wanted one for each");
  std::unordered_set<std::string_view> seen;
  for (const auto& token : tokens) {
    DST_CHECK(!token.empty(), "the tokenizer's vocabulary holds the empty string");
    DST_CHECK(seen.insert(token).second, "the token \"", token, "\" is in the vocabulary twice");
  }
}

void check_id(const char* what, std::optional<int32_t> id, size_t num_tokens) {
  DST_CHECK(!id || (*id >= 0 && static_cast<size_t>(*id) < num_tokens), "the ", what, " id is ",
            id.value_or(0), ", the vocabulary has ", num_tokens, " tokens");
}

std::pair<std::string, std::string> split_merge(const std::string& merge) {
  size_t space = merge.find(' ');
  DST_CHECK(
      space != merge.npos && space > 0 && space + 1 < merge.size() && merge.rfind(' ') == space,
      "the merge \"", merge, "\" is not two tokens with a space between them");
  return {merge.substr(0, space), merge.substr(space + 1)};
}

}  // namespace

TokenizerModel model_of_vocabulary(BpeVocabulary vocabulary) {
  check_tokens(vocabulary);
  check_id("bos", vocabulary.bos_id, vocabulary.tokens.size());
  check_id("eos", vocabulary.eos_id, vocabulary.tokens.size());
  check_id("pad", vocabulary.pad_id, vocabulary.tokens.size());
  DST_CHECK(!vocabulary.add_bos || vocabulary.bos_id,
            "the vocabulary asks for a bos token but names none");

  TokenizerModel model;
  set_pipeline(vocabulary.pre, model);
  for (size_t i = 0; i < vocabulary.token_types.size(); ++i) {
    int type = vocabulary.token_types[i];
    if (type == kControl || type == kUserDefined)
      model.added_tokens.push_back({.id = static_cast<int32_t>(i),
                                    .content = vocabulary.tokens[i],
                                    .special = type == kControl});
  }
  for (const auto& merge : vocabulary.merges) model.merges.push_back(split_merge(merge));
  model.tokens = std::move(vocabulary.tokens);
  // All of them: Hugging Face's library numbers tokens outside the vocabulary anew, after its end.
  model.in_bpe_vocabulary.assign(model.tokens.size(), true);
  model.bos_id = vocabulary.bos_id;
  model.eos_id = vocabulary.eos_id;
  model.pad_id = vocabulary.pad_id;
  model.add_bos = vocabulary.add_bos;
  model.chat_template = std::move(vocabulary.chat_template);
  model.model_max_length = vocabulary.model_max_length;
  return model;
}

}  // namespace deepseek_train::text
