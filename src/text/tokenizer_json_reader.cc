#include <algorithm>

#include "deepseek_train/core/log.h"
#include "src/text/json_access.h"
#include "src/text/tokenizer_json.h"

namespace deepseek_train::text {
namespace {

// A vocabulary of more ids than this is damage, not a model.
constexpr int64_t kMaxTokens = int64_t{1} << 24;

[[noreturn]] void throw_unsupported(std::string_view part, std::string_view found,
                                    std::string_view supported) {
  throw InvalidArgument(concat("the tokenizer's ", part, " is ", found,
                               ", which is not supported; supported: ", supported));
}

std::string type_of(const Json& part) { return string_or_empty(part, "type"); }

int32_t token_id(const Json& json, std::string_view token) {
  DST_CHECK_AS(
      DataCorruption,
      json.is_number_integer() && json.get<int64_t>() >= 0 && json.get<int64_t>() < kMaxTokens,
      "the token \"", token, "\" has a bad id, wanted an integer from 0 to ", kMaxTokens - 1);
  return json.get<int32_t>();
}

void set_token(int32_t id, const std::string& token, TokenizerModel& model) {
  auto index = static_cast<size_t>(id);
  if (model.tokens.size() <= index) {
    model.tokens.resize(index + 1);
    model.in_bpe_vocabulary.resize(index + 1);
  }
  DST_CHECK_AS(DataCorruption, model.tokens[index].empty() || model.tokens[index] == token,
               "the tokens \"", model.tokens[index], "\" and \"", token, "\" both have the id ",
               id);
  model.tokens[index] = token;
}

void parse_vocabulary(const Json& vocabulary, TokenizerModel& model) {
  DST_CHECK_AS(DataCorruption, vocabulary.is_object(), "the tokenizer's model.vocab is ",
               vocabulary.type_name(), ", wanted an object");
  for (const auto& [token, id] : vocabulary.items()) {
    DST_CHECK_AS(DataCorruption, !token.empty(),
                 "the tokenizer's vocabulary holds the empty string");
    set_token(token_id(id, token), token, model);
    model.in_bpe_vocabulary[id.get<size_t>()] = true;
  }
}

// Either "left right" or ["left", "right"].
std::pair<std::string, std::string> parse_merge(const Json& merge) {
  if (merge.is_array() && merge.size() == 2)
    return {require_string(merge[0], "a merge's left part"),
            require_string(merge[1], "a merge's right part")};
  const auto& text = require_string(merge, "a merge");
  size_t space = text.find(' ');
  DST_CHECK_AS(
      DataCorruption,
      space != text.npos && space > 0 && space + 1 < text.size() && text.rfind(' ') == space,
      "the merge \"", text, "\" is not two tokens with a space between them");
  return {text.substr(0, space), text.substr(space + 1)};
}

void parse_bpe(const Json& bpe, TokenizerModel& model) {
  auto type = type_of(bpe);
  // Old files leave the type out.
  if (type != "BPE" && !(type.empty() && bpe.contains("merges")))
    throw_unsupported("model", type, "BPE");
  check_keys(bpe, "the tokenizer's model",
             {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
              "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix", "unk_token"}) {
    auto value = string_or_empty(bpe, key);
    if (!value.empty()) throw_unsupported(concat("model.", key), value, "none");
  }
  const Json& dropout = value_or_null(bpe, "dropout");
  if (!dropout.is_null() && dropout != 0.0) throw_unsupported("model.dropout", "set", "none");
  if (bool_or(bpe, "byte_fallback", false))
    throw_unsupported("model.byte_fallback", "true", "false");
  model.ignore_merges = bool_or(bpe, "ignore_merges", false);
  parse_vocabulary(value_or_null(bpe, "vocab"), model);
  for (const auto& merge :
       require_array(value_or_null(bpe, "merges"), "the tokenizer's model.merges"))
    model.merges.push_back(parse_merge(merge));
}

void parse_added_tokens(const Json& tokens, TokenizerModel& model) {
  if (tokens.is_null()) return;
  for (const auto& json : require_array(tokens, "the tokenizer's added_tokens")) {
    check_keys(json, "an added token",
               {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    AddedToken token;
    token.content = require_string(value_or_null(json, "content"), "an added token's content");
    DST_CHECK_AS(DataCorruption, !token.content.empty(), "an added token is the empty string");
    token.id = token_id(value_or_null(json, "id"), token.content);
    token.special = bool_or(json, "special", false);
    token.normalized = bool_or(json, "normalized", !token.special);
    token.single_word = bool_or(json, "single_word", false);
    token.lstrip = bool_or(json, "lstrip", false);
    token.rstrip = bool_or(json, "rstrip", false);
    set_token(token.id, token.content, model);
    model.added_tokens.push_back(std::move(token));
  }
  std::sort(model.added_tokens.begin(), model.added_tokens.end(),
            [](auto& a, auto& b) { return a.id < b.id; });
}

void parse_normalizer(const Json& normalizer, TokenizerModel& model) {
  if (normalizer.is_null()) return;
  auto type = type_of(normalizer);
  if (type == "NFC") {
    model.nfc = true;
  } else if (type == "Sequence") {
    for (const auto& part :
         require_array(value_or_null(normalizer, "normalizers"), "normalizer.normalizers"))
      parse_normalizer(part, model);
  } else {
    throw_unsupported("normalizer", type, "NFC");
  }
}

SplitBehavior parse_behavior(const std::string& name) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  throw_unsupported("Split behavior", name,
                    "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

SplitStep parse_split(const Json& json) {
  check_keys(json, "a Split", {"type", "pattern", "behavior", "invert"});
  SplitStep step;
  const Json& pattern = value_or_null(json, "pattern");
  step.is_regex = !value_or_null(pattern, "Regex").is_null();
  step.pattern = require_string(value_or_null(pattern, step.is_regex ? "Regex" : "String"),
                                "a Split's pattern");
  DST_CHECK_AS(DataCorruption, !step.pattern.empty(), "a Split's pattern is empty");
  step.behavior = parse_behavior(string_or_empty(json, "behavior"));
  step.invert = bool_or(json, "invert", false);
  return step;
}

void parse_pre_tokenizer(const Json& json, TokenizerModel& model) {
  auto type = type_of(json);
  bool after_bytes = !model.pre_tokenizer.empty() &&
                     std::holds_alternative<ByteLevelStep>(model.pre_tokenizer.back());
  if (after_bytes)
    throw_unsupported("pre_tokenizer", type + " after ByteLevel",
                      "ByteLevel as the last of the sequence");
  if (type == "Sequence") {
    for (const auto& part :
         require_array(value_or_null(json, "pretokenizers"), "pre_tokenizer.pretokenizers"))
      parse_pre_tokenizer(part, model);
  } else if (type == "Split") {
    model.pre_tokenizer.emplace_back(parse_split(json));
  } else if (type == "Digits") {
    check_keys(json, "a Digits", {"type", "individual_digits"});
    model.pre_tokenizer.emplace_back(DigitsStep{bool_or(json, "individual_digits", false)});
  } else if (type == "ByteLevel") {
    check_keys(json, "a ByteLevel", {"type", "add_prefix_space", "trim_offsets", "use_regex"});
    model.pre_tokenizer.emplace_back(
        ByteLevelStep{bool_or(json, "add_prefix_space", true), bool_or(json, "use_regex", true)});
  } else {
    throw_unsupported("pre_tokenizer", type.empty() ? "absent" : type,
                      "ByteLevel, Split, Digits, Sequence");
  }
}

// The one template that is supported: the beginning-of-text token, then the text.
void parse_template(const Json& processor, TokenizerModel& model) {
  const Json& single = require_array(value_or_null(processor, "single"), "post_processor.single");
  bool text_last = !single.empty() && single.back().contains("Sequence");
  if (text_last && single.size() == 1) return;
  bool begins_special = text_last && single.size() == 2 && single.front().contains("SpecialToken");
  if (!begins_special)
    throw_unsupported("post_processor", "a longer TemplateProcessing", "one token, then the text");
  const auto& name = require_string(value_or_null(single.front()["SpecialToken"], "id"),
                                    "post_processor.single's token");
  const Json& token = value_or_null(value_or_null(processor, "special_tokens"), name.c_str());
  const Json& ids =
      require_array(value_or_null(token, "ids"), "post_processor.special_tokens' ids");
  if (ids.size() != 1)
    throw_unsupported("post_processor", "a template token of several ids", "one id");
  model.bos_id = token_id(ids.front(), name);
  DST_CHECK_AS(DataCorruption, static_cast<size_t>(*model.bos_id) < model.tokens.size(),
               "the tokenizer's post_processor names id ", *model.bos_id,
               ", the vocabulary ends at ", model.tokens.size());
  model.add_bos = true;
}

void parse_post_processor(const Json& processor, TokenizerModel& model) {
  if (processor.is_null()) return;
  auto type = type_of(processor);
  if (type == "ByteLevel") return;  // moves offsets, not ids
  if (type == "TemplateProcessing") return parse_template(processor, model);
  if (type != "Sequence")
    throw_unsupported("post_processor", type, "ByteLevel, TemplateProcessing, Sequence");
  for (const auto& part :
       require_array(value_or_null(processor, "processors"), "post_processor.processors"))
    parse_post_processor(part, model);
}

void check_decoder(const Json& decoder) {
  if (!decoder.is_null() && type_of(decoder) != "ByteLevel")
    throw_unsupported("decoder", type_of(decoder), "ByteLevel");
}

// "<s>", or an object with the text under "content".
std::optional<int32_t> named_token(const Json& config, const char* key,
                                   const TokenizerModel& model) {
  const Json& value = value_or_null(config, key);
  if (value.is_null()) return std::nullopt;
  const auto& token =
      require_string(value.is_object() ? value_or_null(value, "content") : value, key);
  auto found = std::find(model.tokens.begin(), model.tokens.end(), token);
  DST_CHECK(found != model.tokens.end() && !token.empty(), "tokenizer_config.json names the ", key,
            " \"", token, "\", which tokenizer.json does not have; take both from the same folder");
  return static_cast<int32_t>(found - model.tokens.begin());
}

// One template, or a list of named ones of which "default" is for chat.
std::string chat_template(const Json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  for (const auto& entry : require_array(value, "chat_template"))
    if (string_or_empty(entry, "name") == "default") return string_or_empty(entry, "template");
  return "";
}

}  // namespace

TokenizerModel parse_tokenizer_json(std::string_view text) {
  Json json = parse_json_object(text, "tokenizer.json");
  check_keys(json, "tokenizer.json",
             {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
              "post_processor", "decoder", "model"});
  TokenizerModel model;
  parse_bpe(value_or_null(json, "model"), model);
  parse_added_tokens(value_or_null(json, "added_tokens"), model);
  parse_normalizer(value_or_null(json, "normalizer"), model);
  parse_pre_tokenizer(value_or_null(json, "pre_tokenizer"), model);
  bool byte_level = !model.pre_tokenizer.empty() &&
                    std::holds_alternative<ByteLevelStep>(model.pre_tokenizer.back());
  if (!byte_level) throw_unsupported("pre_tokenizer", "without ByteLevel", "byte-level BPE");
  parse_post_processor(value_or_null(json, "post_processor"), model);
  check_decoder(value_or_null(json, "decoder"));
  for (const char* key : {"truncation", "padding"})
    if (!value_or_null(json, key).is_null())
      log_warning("tokenizer.json sets ", key,
                  ", which is left aside: the data stage decides lengths");
  return model;
}

void apply_tokenizer_config(std::string_view text, TokenizerModel& model) {
  Json config = parse_json_object(text, "tokenizer_config.json");
  if (auto id = named_token(config, "bos_token", model)) model.bos_id = id;
  model.eos_id = named_token(config, "eos_token", model);
  model.pad_id = named_token(config, "pad_token", model);
  model.add_bos = bool_or(config, "add_bos_token", model.add_bos) && model.bos_id.has_value();
  model.chat_template = chat_template(value_or_null(config, "chat_template"));
  // Hugging Face writes 10^30 for "not known".
  const Json& length = value_or_null(config, "model_max_length");
  bool known = length.is_number_integer() && length.get<int64_t>() > 0;
  model.model_max_length = known ? length.get<int64_t>() : 0;
}

}  // namespace deepseek_train::text
