#include "deepseek_train/data/prepare.h"

#include <nlohmann/json.hpp>

#include "deepseek_train/core/sha256.h"
#include "deepseek_train/data/token_store.h"
#include "tests/data/support.h"

namespace deepseek_train::data {
namespace {

// One token for each byte.
std::vector<int32_t> bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

class PrepareTest : public FolderTest {
 protected:
  PrepareResult run(const SourceOptions& sources, const PrepareOptions& options,
                    const TokenizeFn& tokenize = bytes_of) {
    return prepare(env_, sources, tokenize, options, path("out.h5"));
  }
  SourceOptions pairs(std::string_view text) {
    return {.paths = {write("a.csv", text)}, .prompt_template = "{q}:", .answer_template = "{a}"};
  }

  PrepareOptions options_{.eos_id = 0, .tokenizer_sha256 = "abc"};
};

TEST_F(PrepareTest, PutsTheLossOnAnswerAndEnd) {
  auto result = run(pairs("q,a\nx,yz\nlong,b\n"), options_);
  TokenStore store(env_, path("out.h5"));
  ASSERT_EQ(store.size(), 2);
  EXPECT_EQ(store.document(0), (Document{{'x', ':', 'y', 'z', 0}, {{2, 5}}}));
  EXPECT_EQ(store.document(1), (Document{{'l', 'o', 'n', 'g', ':', 'b', 0}, {{5, 7}}}));
  EXPECT_EQ(result.documents, 2);
  EXPECT_EQ(result.tokens, 12);
  EXPECT_EQ(result.loss_tokens, 5);
  EXPECT_EQ(result.truncated, 0);
  EXPECT_EQ(store.num_loss_tokens(), 5);
}

TEST_F(PrepareTest, BeginsWithBosAndEndsWithoutEosIfAskedTo) {
  run(pairs("q,a\nx,y\n"), {.bos_id = 7, .tokenizer_sha256 = "abc"});
  EXPECT_EQ(TokenStore(env_, path("out.h5")).document(0), (Document{{7, 'x', ':', 'y'}, {{3, 4}}}));
}

TEST_F(PrepareTest, TextIsTrainedAsAWhole) {
  run({.paths = {write("a.txt", "ab\n\nc")}}, options_);
  TokenStore store(env_, path("out.h5"));
  EXPECT_EQ(store.document(0), (Document{{'a', 'b', 0}, {{0, 3}}}));
  EXPECT_EQ(store.document(1), (Document{{'c', 0}, {{0, 2}}}));
}

TEST_F(PrepareTest, SegmentsAreTokenizedOneByOne) {
  std::vector<std::string> seen;
  run(pairs("q,a\nx,y\n"), options_, [&](std::string_view text) {
    seen.emplace_back(text);
    return bytes_of(text);
  });
  EXPECT_EQ(seen, (std::vector<std::string>{"x:", "y"}));
}

TEST_F(PrepareTest, SeveralAnswersOfAChatHaveSpansOfTheirOwn) {
  SourceOptions sources{
      .paths = {write("a.jsonl", R"({"messages":[{"role":"user","content":"q"}]})")},
      .render_chat = [](const std::vector<Message>&) {
        return std::vector<Segment>{{"q", false}, {"a", true}, {"b", true},
                                    {"r", false}, {"c", true}, {"\n", false}};
      }};
  run(sources, options_);
  // The template ends the chat itself, so no end token is added behind it.
  EXPECT_EQ(TokenStore(env_, path("out.h5")).document(0),
            (Document{{'q', 'a', 'b', 'r', 'c', '\n'}, {{1, 3}, {4, 5}}}));
}

TEST_F(PrepareTest, CutsLongDocuments) {
  options_.max_length = 5;
  auto result = run(pairs("q,a\nx,yzyz\nx,yz\n"), options_);
  TokenStore store(env_, path("out.h5"));
  EXPECT_EQ(store.document(0), (Document{{'x', ':', 'y', 'z', 'y'}, {{2, 5}}}));
  EXPECT_EQ(store.document(1), (Document{{'x', ':', 'y', 'z', 0}, {{2, 5}}}));
  EXPECT_EQ(result.truncated, 1);
}

TEST_F(PrepareTest, ACutThatTakesTheWholeAnswerIsAnError) {
  options_.max_length = 5;
  expect_error<InvalidArgument>([&] { run(pairs("q,a\nx,y\nlong,y\n"), options_); },
                                {"a.csv:3", "max_length 5", "raise"});
  EXPECT_FALSE(env_.exists(path("out.h5")));
}

TEST_F(PrepareTest, OneTokenAloneTeachesNothing) {
  expect_error<InvalidArgument>(
      [&] { run({.paths = {write("a.txt", "a")}}, {.tokenizer_sha256 = "abc"}); },
      {"a.txt:1", "eos_id"});
}

TEST_F(PrepareTest, ABadLineLeavesNothingBehind) {
  expect_error<InvalidArgument>([&] { run(pairs("q,a\nx,y\nx\n"), options_); }, {"a.csv:3"});
  EXPECT_EQ(env_.list(folder_), std::vector<std::string>{"a.csv"});
}

TEST_F(PrepareTest, NoRecordIsAnError) {
  expect_error<InvalidArgument>([&] { run(pairs("q,a\n"), options_); }, {"a.csv", "no record"});
  expect_error<InvalidArgument>([&] { run({.paths = {write("e.txt", "")}}, options_); },
                                {"e.txt", "no record"});
}

TEST_F(PrepareTest, ATokenizersNonsenseIsAnError) {
  expect_error<InvalidArgument>(
      [&] {
        run(pairs("q,a\nx,y\n"), options_,
            [](std::string_view) { return std::vector<int32_t>{-1}; });
      },
      {"a.csv:2", "token id -1"});
}

TEST_F(PrepareTest, ProvenanceNamesEverythingAndNoTime) {
  const std::string text = "q,a\nx,yz\n";
  options_.max_length = 9;
  options_.provenance = {{"recipe", "r.yaml"}};
  run(pairs(text), options_);
  const std::string first = read_text(env_, path("out.h5"));
  TokenStore store(env_, path("out.h5"));
  EXPECT_EQ(store.tokenizer_sha256(), "abc");
  EXPECT_EQ(nlohmann::json::parse(store.provenance()),
            (nlohmann::json{
                {"sources",
                 {{{"path", path("a.csv")}, {"bytes", text.size()}, {"sha256", sha256_hex(text)}}}},
                {"prompt_template", "{q}:"},
                {"answer_template", "{a}"},
                {"bos_id", nullptr},
                {"eos_id", 0},
                {"max_length", 9},
                {"documents", 1},
                {"tokens", 5},
                {"loss_tokens", 3},
                {"truncated", 0},
                {"extra", {{"recipe", "r.yaml"}}}}));
  run(pairs(text), options_);
  EXPECT_EQ(read_text(env_, path("out.h5")), first);
}

}  // namespace
}  // namespace deepseek_train::data
