// Vocabularies and tokenizer.json files that must be refused, by name.
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "tests/support/damage.h"
#include "tests/support/trials.h"
#include "tests/text/small_tokenizer.h"

namespace deepseek_train::text {
namespace {

using Json = nlohmann::json;

std::string vocabulary_error(const std::function<void(BpeVocabulary&)>& damage) {
  auto vocabulary = small_vocabulary();
  damage(vocabulary);
  try {
    Tokenizer::from_vocabulary(vocabulary);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "no error";
}

void expect_vocabulary_error(const std::function<void(BpeVocabulary&)>& damage,
                             std::string_view wanted) {
  auto text = vocabulary_error(damage);
  EXPECT_NE(text.find(wanted), text.npos) << text;
}

TEST(VocabularyErrors, EveryDamageIsNamed) {
  using V = BpeVocabulary;
  expect_vocabulary_error([](V& v) { v.pre = "tekken"; }, "\"tekken\"");
  expect_vocabulary_error([](V& v) { v.tokens.clear(); }, "empty");
  expect_vocabulary_error([](V& v) { v.tokens[5] = ""; }, "empty string");
  expect_vocabulary_error([](V& v) { v.tokens[5] = "the"; }, "\"the\" is in the vocabulary twice");
  expect_vocabulary_error([](V& v) { v.token_types.pop_back(); }, "262 token types");
  expect_vocabulary_error([](V& v) { v.merges.push_back("thethe"); }, "\"thethe\"");
  expect_vocabulary_error([](V& v) { v.merges.push_back("a b c"); }, "\"a b c\"");
  expect_vocabulary_error([](V& v) { v.merges.push_back("the the"); }, "\"thethe\"");
  expect_vocabulary_error([](V& v) { v.eos_id = 263; }, "eos id is 263");
  expect_vocabulary_error([](V& v) { v.bos_id = -1; }, "bos id is -1");
  expect_vocabulary_error([](V& v) { v.bos_id.reset(), v.add_bos = true; }, "names none");
}

Json small_json() { return Json::parse(Tokenizer::from_vocabulary(small_vocabulary()).to_json()); }

template <typename ErrorType>
void expect_json_error(const std::string& text, std::string_view wanted,
                       std::string_view config = {}) {
  try {
    Tokenizer::from_json(text, config);
    ADD_FAILURE() << "no error, wanted one with: " << wanted;
  } catch (const ErrorType& error) {
    EXPECT_NE(std::string_view(error.what()).find(wanted), std::string_view::npos) << error.what();
  }
}

template <typename ErrorType>
void expect_patched_error(const char* patch, std::string_view wanted) {
  Json json = small_json();
  json.merge_patch(Json::parse(patch));
  expect_json_error<ErrorType>(json.dump(), wanted);
}

TEST(TokenizerJsonErrors, UnsupportedPartsAreNamed) {
  expect_patched_error<InvalidArgument>(R"({"model":{"type":"Unigram"}})", "Unigram");
  expect_patched_error<InvalidArgument>(R"({"dictionary":[]})", "\"dictionary\"");
  expect_patched_error<InvalidArgument>(R"({"model":{"max_word":3}})", "\"max_word\"");
  expect_patched_error<InvalidArgument>(
      R"({"pre_tokenizer":{"type":"ByteLevel","use_bytes":true,"pretokenizers":null}})",
      "\"use_bytes\"");
  expect_patched_error<InvalidArgument>(
      R"({"added_tokens":[{"id":1,"content":"x","ignore_case":true}]})", "\"ignore_case\"");
  expect_patched_error<InvalidArgument>(R"({"model":{"unk_token":"<unk>"}})", "<unk>");
  expect_patched_error<InvalidArgument>(R"({"model":{"byte_fallback":true}})", "byte_fallback");
  expect_patched_error<InvalidArgument>(R"({"model":{"dropout":0.1}})", "dropout");
  expect_patched_error<InvalidArgument>(R"({"model":{"end_of_word_suffix":"</w>"}})", "</w>");
  expect_patched_error<InvalidArgument>(R"({"normalizer":{"type":"Lowercase"}})", "Lowercase");
  expect_patched_error<InvalidArgument>(R"({"pre_tokenizer":null})", "absent");
  expect_patched_error<InvalidArgument>(
      R"({"pre_tokenizer":{"type":"Metaspace","pretokenizers":null}})", "Metaspace");
  expect_patched_error<InvalidArgument>(
      R"({"pre_tokenizer":{"pretokenizers":[{"type":"ByteLevel"},{"type":"Digits"}]}})",
      "Digits after ByteLevel");
  expect_patched_error<InvalidArgument>(R"({"post_processor":{"type":"BertProcessing"}})",
                                        "BertProcessing");
  expect_patched_error<InvalidArgument>(
      R"({"post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A"}},{"SpecialToken":{"id":"x"}}]}})",
      "TemplateProcessing");
  expect_patched_error<InvalidArgument>(R"({"decoder":{"type":"WordPiece"}})", "WordPiece");
}

TEST(TokenizerJsonErrors, DamagedFilesAreRefused) {
  auto whole = small_json().dump();
  for (size_t length : {size_t{0}, size_t{1}, whole.size() / 2, whole.size() - 1})
    expect_json_error<DataCorruption>(whole.substr(0, length), "tokenizer.json is not valid JSON");
  expect_json_error<DataCorruption>("[]", "wanted an object");
  expect_patched_error<DataCorruption>(R"({"model":{"vocab":{"new":5}}})", "both have the id 5");
  expect_patched_error<DataCorruption>(R"({"model":{"vocab":{"new":-1}}})", "bad id");
  expect_patched_error<DataCorruption>(R"({"model":{"vocab":{"new":99999999999}}})", "bad id");
  expect_patched_error<DataCorruption>(R"({"model":{"vocab":{"new":1.5}}})", "bad id");
  expect_patched_error<DataCorruption>(R"({"model":{"vocab":[]}})", "model.vocab");
  expect_patched_error<DataCorruption>(R"({"model":{"merges":["ab"]}})", "\"ab\"");
  expect_patched_error<DataCorruption>(R"({"model":{"merges":[["a"]]}})", "a merge");
  expect_patched_error<InvalidArgument>(R"({"model":{"merges":["a b"]}})", "\"ab\"");
  expect_patched_error<DataCorruption>(R"({"added_tokens":[{"id":1}]})", "content");
  expect_patched_error<DataCorruption>(R"({"added_tokens":[{"id":1,"content":""}]})",
                                       "empty string");
}

TEST(TokenizerJsonErrors, RandomDamageIsReadOrRefused) {
  const int trials = test_support::num_trials(300, 200'000);
  const int refused = test_support::refused_of_damaged(
      small_json().dump(), /*seed=*/14, trials, [](const std::string& damaged) {
        const std::string text = "the 12 the<|im_end|>\u00e9";
        auto tokenizer = Tokenizer::from_json(damaged);
        for (int32_t id : tokenizer.encode(text)) EXPECT_LT(id, tokenizer.vocab_size());
      });
  EXPECT_GT(refused, trials / 3);
  EXPECT_LT(refused, trials);
}

void expect_pattern_error(const std::string& pattern, std::string_view wanted) {
  Json json = small_json();
  json["pre_tokenizer"]["pretokenizers"].insert(json["pre_tokenizer"]["pretokenizers"].begin(),
                                                Json{{"type", "Split"},
                                                     {"pattern", {{"Regex", pattern}}},
                                                     {"behavior", "Isolated"},
                                                     {"invert", false}});
  expect_json_error<InvalidArgument>(json.dump(), wanted);
}

TEST(TokenizerJsonErrors, PatternsThatEnginesReadDifferentlyAreRefused) {
  expect_pattern_error("(a", "not a valid regular expression");
  expect_pattern_error(R"(\w+)", "\\w");
  expect_pattern_error(R"(a\b)", "\\b");
  expect_pattern_error(R"([\S])", "\\S");
  expect_pattern_error("[a-z&&[^b]]", "intersects");
  expect_pattern_error("[a[b]]", "nests");
  expect_pattern_error("a\\", "backslash");
}

TEST(TokenizerJsonErrors, APatternThatMatchesNothingIsRefusedInUse) {
  Json json = small_json();
  json["pre_tokenizer"]["pretokenizers"].insert(json["pre_tokenizer"]["pretokenizers"].begin(),
                                                Json{{"type", "Split"},
                                                     {"pattern", {{"Regex", "x*"}}},
                                                     {"behavior", "Isolated"},
                                                     {"invert", false}});
  auto tokenizer = Tokenizer::from_json(json.dump());
  EXPECT_THROW(tokenizer.encode("a"), InvalidArgument);
}

TEST(TokenizerConfig, NamedTokensMustExist) {
  auto text = small_json().dump();
  expect_json_error<InvalidArgument>(text, "\"<none>\"", R"({"eos_token":"<none>"})");
  expect_json_error<DataCorruption>(text, "tokenizer_config.json is not valid JSON", "{");
  auto tokenizer = Tokenizer::from_json(
      text, R"({"eos_token":{"content":"<|im_end|>"},"pad_token":"<user>","model_max_length":1e30,
                "chat_template":[{"name":"tool","template":"x"},{"name":"default","template":"y"}]})");
  EXPECT_EQ(tokenizer.eos_id(), kEnd);
  EXPECT_EQ(tokenizer.pad_id(), kUser);
  EXPECT_EQ(tokenizer.chat_template(), "y");
}

TEST(TokenizerFolder, ErrorsNameTheFile) {
  Env& env = posix_env();
  auto folder = join_path(testing::TempDir(), concat("dst_text_", ::getpid()));
  EXPECT_THROW(Tokenizer::from_folder(env, folder), NotFound);
  write_text(env, join_path(folder, "tokenizer.json"), small_json().dump());
  write_text(env, join_path(folder, "chat_template.jinja"), "template");
  EXPECT_EQ(Tokenizer::from_folder(env, folder).chat_template(), "template");
  write_text(env, join_path(folder, "tokenizer_config.json"), "nonsense");
  try {
    Tokenizer::from_folder(env, folder);
    ADD_FAILURE() << "no error";
  } catch (const DataCorruption& error) {
    EXPECT_NE(std::string(error.what()).find(join_path(folder, "tokenizer_config.json")),
              std::string::npos);
  }
  env.remove_all(folder);
}

}  // namespace
}  // namespace deepseek_train::text
