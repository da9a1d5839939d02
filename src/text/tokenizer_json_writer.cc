// The text is built by hand where it is long: one entry to a line, in the order of the ids, so that
// the same tokenizer always gives the same bytes and two of them can be compared line by line.
#include "src/text/json_access.h"
#include "src/text/tokenizer_json.h"

namespace deepseek_train::text {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string json_string(const std::string& text) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    throw InvalidArgument(
        "a token or template of the tokenizer is not valid UTF-8, which JSON cannot hold");
  }
}

// "[\n  a,\n  b\n]" with the brackets given.
class Lines {
 public:
  explicit Lines(char open) : text_(1, open) {}
  void add(std::string_view line) {
    text_.append(empty_ ? "\n    " : ",\n    ").append(line);
    empty_ = false;
  }
  std::string finish(char close) { return std::move(text_) + (empty_ ? "" : "\n  ") + close; }

 private:
  std::string text_;
  bool empty_ = true;
};

std::string added_tokens_text(const TokenizerModel& model) {
  Lines lines('[');
  for (const auto& token : model.added_tokens)
    lines.add(concat("{\"id\": ", token.id, ", \"content\": ", json_string(token.content),
                     ", \"single_word\": ", token.single_word, ", \"lstrip\": ", token.lstrip,
                     ", \"rstrip\": ", token.rstrip, ", \"normalized\": ", token.normalized,
                     ", \"special\": ", token.special, "}"));
  return lines.finish(']');
}

std::string vocabulary_text(const TokenizerModel& model) {
  Lines lines('{');
  for (size_t id = 0; id < model.tokens.size(); ++id)
    if (model.in_bpe_vocabulary[id]) lines.add(concat(json_string(model.tokens[id]), ": ", id));
  return lines.finish('}');
}

std::string merges_text(const TokenizerModel& model) {
  Lines lines('[');
  for (const auto& [left, right] : model.merges)
    lines.add(concat("[", json_string(left), ", ", json_string(right), "]"));
  return lines.finish(']');
}

const char* name_of(SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::kRemoved: return "Removed";
    case SplitBehavior::kIsolated: return "Isolated";
    case SplitBehavior::kMergedWithPrevious: return "MergedWithPrevious";
    case SplitBehavior::kMergedWithNext: return "MergedWithNext";
    case SplitBehavior::kContiguous: return "Contiguous";
  }
  throw Internal("unknown SplitBehavior");
}

OrderedJson step_json(const SplitStep& step) {
  return {{"type", "Split"},
          {"pattern", OrderedJson::object({{step.is_regex ? "Regex" : "String", step.pattern}})},
          {"behavior", name_of(step.behavior)},
          {"invert", step.invert}};
}

OrderedJson step_json(const DigitsStep& step) {
  return {{"type", "Digits"}, {"individual_digits", step.individual}};
}

OrderedJson step_json(const ByteLevelStep& step) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", step.add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", step.use_regex}};
}

OrderedJson pre_tokenizer_json(const TokenizerModel& model) {
  OrderedJson steps = OrderedJson::array();
  for (const auto& step : model.pre_tokenizer)
    steps.push_back(std::visit([](const auto& typed) { return step_json(typed); }, step));
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

OrderedJson post_processor_json(const TokenizerModel& model) {
  if (!model.add_bos) return nullptr;
  const auto& bos = model.tokens[static_cast<size_t>(*model.bos_id)];
  auto token = [&](int type) {
    return OrderedJson{{"SpecialToken", {{"id", bos}, {"type_id", type}}}};
  };
  auto text = [](const char* id, int type) {
    return OrderedJson{{"Sequence", {{"id", id}, {"type_id", type}}}};
  };
  OrderedJson named = {{"id", bos},
                       {"ids", OrderedJson::array({*model.bos_id})},
                       {"tokens", OrderedJson::array({bos})}};
  return {{"type", "TemplateProcessing"},
          {"single", OrderedJson::array({token(0), text("A", 0)})},
          {"pair", OrderedJson::array({token(0), text("A", 0), token(1), text("B", 1)})},
          {"special_tokens", OrderedJson::object({{bos, named}})}};
}

std::string model_text(const TokenizerModel& model) {
  return concat("{\n  \"type\": \"BPE\",\n  \"dropout\": null,\n  \"unk_token\": null,\n",
                "  \"continuing_subword_prefix\": null,\n  \"end_of_word_suffix\": null,\n  "
                "\"fuse_unk\": false,\n",
                "  \"byte_fallback\": false,\n  \"ignore_merges\": ", model.ignore_merges,
                ",\n  \"vocab\": ", vocabulary_text(model), ",\n  \"merges\": ", merges_text(model),
                "\n}");
}

}  // namespace

std::string format_tokenizer_json(const TokenizerModel& model) {
  const OrderedJson decoder = {{"type", "ByteLevel"},
                               {"add_prefix_space", true},
                               {"trim_offsets", true},
                               {"use_regex", true}};
  return concat(
      "{\n\"version\": \"1.0\",\n\"truncation\": null,\n\"padding\": null,\n\"added_tokens\": ",
      added_tokens_text(model), ",\n\"normalizer\": ", model.nfc ? R"({"type":"NFC"})" : "null",
      ",\n\"pre_tokenizer\": ", pre_tokenizer_json(model).dump(),
      ",\n\"post_processor\": ", post_processor_json(model).dump(),
      ",\n\"decoder\": ", decoder.dump(), ",\n\"model\": ", model_text(model), "\n}\n");
}

std::string format_tokenizer_config(const TokenizerModel& model) {
  OrderedJson config = OrderedJson::object();
  auto add_token = [&](const char* key, std::optional<int32_t> id) {
    if (id) config[key] = model.tokens[static_cast<size_t>(*id)];
  };
  config["add_bos_token"] = model.add_bos;
  add_token("bos_token", model.bos_id);
  if (!model.chat_template.empty()) config["chat_template"] = model.chat_template;
  config["clean_up_tokenization_spaces"] = false;
  add_token("eos_token", model.eos_id);
  if (model.model_max_length > 0) config["model_max_length"] = model.model_max_length;
  add_token("pad_token", model.pad_id);
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  return config.dump(2) + "\n";
}

}  // namespace deepseek_train::text
