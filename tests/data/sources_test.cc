#include "deepseek_train/data/sources.h"

#include "tests/data/support.h"

namespace deepseek_train::data {
namespace {

// "<role>content" for every turn, loss on the assistant's.
std::vector<Segment> render_for_test(const std::vector<Message>& messages) {
  std::vector<Segment> segments;
  for (const Message& message : messages)
    segments.push_back(
        {concat("<", message.role, ">", message.content), message.role == "assistant"});
  return segments;
}

class SourcesTest : public FolderTest {
 protected:
  std::vector<TextRecord> read(std::string_view name, std::string_view text,
                               SourceOptions options = {}) {
    options.paths = {write(name, text)};
    std::vector<TextRecord> records;
    for_each_record(env_, options, [&](const TextRecord& record) { records.push_back(record); });
    return records;
  }
  // The segments of a file with one record, in the notation [text] without and {text} with loss.
  std::string read_one(std::string_view name, std::string_view text,
                       const SourceOptions& options = {}) {
    auto records = read(name, text, options);
    EXPECT_EQ(records.size(), 1u);
    std::string all;
    if (!records.empty())
      for (const Segment& segment : records[0].segments)
        all += segment.loss ? "{" + segment.text + "}" : "[" + segment.text + "]";
    return all;
  }
  void expect_refused(std::string_view name, std::string_view text, const SourceOptions& options,
                      const std::vector<std::string>& pieces) {
    expect_error<InvalidArgument>([&] { read(name, text, options); }, pieces);
  }

  const SourceOptions chat_{.render_chat = render_for_test};
  const SourceOptions routing_{.prompt_template = "Software: {description}\nSection:",
                               .answer_template = " {section}"};
};

TEST_F(SourcesTest, ParagraphsOfText) {
  auto records = read("a.txt", "\n\none\ntwo\r\n  \nthree\n\n\n\nfour");
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].segments, (std::vector<Segment>{{"one\ntwo", true}}));
  EXPECT_EQ(records[1].segments, (std::vector<Segment>{{"three", true}}));
  EXPECT_EQ(records[2].segments, (std::vector<Segment>{{"four", true}}));
  EXPECT_EQ(records[0].place, path("a.txt") + ":3");
  EXPECT_EQ(records[2].place, path("a.txt") + ":10");
}

TEST_F(SourcesTest, AFileAsOneRecord) {
  EXPECT_EQ(read_one("a.txt", "\xef\xbb\xbfone\n\ntwo\n", {.text_unit = TextUnit::kFile}),
            "{one\n\ntwo\n}");
  expect_refused("a.txt", " \n", {.text_unit = TextUnit::kFile}, {"a.txt", "empty"});
}

TEST_F(SourcesTest, ChatShapes) {
  EXPECT_EQ(
      read_one("a.jsonl",
               R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})",
               chat_),
      "[<user>q]{<assistant>a}");
  EXPECT_EQ(
      read_one(
          "a.jsonl",
          R"({"messages":[{"role":"user","content":[{"type":"text","text":"q"},{"type":"text","text":"r"}]},)"
          R"({"role":"assistant","content":"a"}]})",
          chat_),
      "[<user>qr]{<assistant>a}");
  EXPECT_EQ(
      read_one(
          "a.jsonl",
          R"({"system":"s","conversations":[{"from":"human","value":"q"},{"from":"observation","value":"o"},)"
          R"({"from":"gpt","value":"a"}]})",
          chat_),
      "[<system>s][<user>q][<tool>o]{<assistant>a}");
  EXPECT_EQ(read_one("a.jsonl", R"({"instruction":"i","input":"","output":"o"})", chat_),
            "[<user>i]{<assistant>o}");
  EXPECT_EQ(
      read_one("a.jsonl",
               R"({"instruction":"i","input":"n","output":"o","system":"s","history":[["q","a"]]})",
               chat_),
      "[<system>s][<user>q]{<assistant>a}[<user>i\nn]{<assistant>o}");
}

TEST_F(SourcesTest, PlainShapes) {
  EXPECT_EQ(read_one("a.jsonl", R"({"prompt":"p ","completion":"c","id":4})"), "[p ]{c}");
  EXPECT_EQ(read_one("a.ndjson", R"({"text":"\u4f60\u597d"})"), "{\xe4\xbd\xa0\xe5\xa5\xbd}");
}

TEST_F(SourcesTest, TemplatesOverJsonl) {
  EXPECT_EQ(
      read_one("a.jsonl", R"({"description":"a \"chess\" game","section":"games"})", routing_),
      "[Software: a \"chess\" game\nSection:]{ games}");
  EXPECT_EQ(read_one("a.jsonl", R"({"i":-3,"f":2.5,"b":true,"messages":0})",
                     {.answer_template = "{{{i}}} {f} {b}"}),
            "{{-3} 2.5 true}");
}

TEST_F(SourcesTest, TemplatesOverCsv) {
  EXPECT_EQ(
      read_one("a.csv", "\xef\xbb\xbfsection,description\r\nmail,\"reads\nmail, \"\"fast\"\"\"\r\n",
               routing_),
      "[Software: reads\nmail, \"fast\"\nSection:]{ mail}");
  auto records = read("a.CSV", "section,description\n\"a\n\",b\nc,d\n", routing_);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[1].place, path("a.CSV") + ":4");
}

TEST_F(SourcesTest, SeveralFilesInOrder) {
  SourceOptions options{.paths = {write("b.txt", "one"), write("a.jsonl", R"({"text":"two"})"
                                                                          "\n\n"
                                                                          R"({"text":"three"})")}};
  std::string all;
  for_each_record(env_, options,
                  [&](const TextRecord& record) { all += record.segments[0].text + " "; });
  EXPECT_EQ(all, "one two three ");
}

TEST_F(SourcesTest, JsonErrorsNameTheLine) {
  const std::string good = "{\"text\":\"x\"}\n";
  expect_refused("a.jsonl", good + "{\"text\":\n", {},
                 {"a.jsonl:2", "not valid JSON near character 9"});
  expect_refused("a.jsonl", good + "\n[1]\n", {}, {"a.jsonl:3", "type array", "jq"});
  expect_refused("a.jsonl", "[\n" + good + "]", {}, {"a.jsonl:1", "jq"});
  expect_refused("a.jsonl", good + "{\"txt\":\"x\"}\n", {},
                 {"a.jsonl:2", "no field \"text\"", "did you mean \"txt\""});
  expect_refused("a.jsonl", good + "{\"text\":7}\n", {},
                 {"a.jsonl:2", "\"text\" is of type number", "wanted a string"});
  expect_refused("a.jsonl", "{\"question\":\"x\",\"answers\":1}\n", {},
                 {"a.jsonl:1", "[answers, question]", "prompt and an answer template"});
  expect_refused("a.jsonl", good + std::string(100000, '['), {}, {"a.jsonl:2"});
}

TEST_F(SourcesTest, ChatErrorsNameTheLine) {
  auto refuse = [&](std::string_view line, std::vector<std::string> pieces) {
    pieces.push_back("a.jsonl:2");
    expect_refused("a.jsonl", concat("\n", line), chat_, pieces);
  };
  refuse(R"({"messages":[]})", {"\"messages\""});
  refuse(R"({"messages":"hello"})", {"\"messages\""});
  refuse(R"({"messages":["hello"]})", {"a turn is of type string"});
  refuse(R"({"messages":[{"role":"usr","content":"q"}]})", {"unknown role \"usr\"", "user"});
  refuse(R"({"messages":[{"role":"user","contents":"q"}]})", {"no field \"content\"", "contents"});
  refuse(R"({"messages":[{"role":"user","content":null}]})", {"\"content\" is of type null"});
  refuse(R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})",
         {"not of type text"});
  refuse(R"({"messages":[{"role":"user","content":[{"type":7}]}]})", {"not of type text"});
  refuse(R"({"conversations":[{"from":"human"}]})", {"no field \"value\""});
  refuse(R"({"instruction":"i"})", {"no field \"output\""});
  refuse(R"({"instruction":"i","output":"o","history":[["q"]]})", {"pair of strings"});
  refuse(R"({"instruction":"i","output":"o","history":{}})", {"list of pairs"});
  refuse(R"({"messages":[{"role":"user","content":"q"}]})", {"nothing to train on"});
  expect_refused("a.jsonl", R"({"instruction":"i","output":"o"})", {},
                 {"a.jsonl:1", "chat template"});
  const SourceOptions unable{.render_chat = [](const auto&) -> std::vector<Segment> {
    throw InvalidArgument("no such format");
  }};
  expect_refused("a.jsonl", R"({"instruction":"i","output":"o"})", unable,
                 {"a.jsonl:1: no such format"});
}

TEST_F(SourcesTest, TemplateErrorsNameTheLineAndTheNearestField) {
  expect_refused("a.jsonl", R"({"descripton":"d","section":"s"})", routing_,
                 {"a.jsonl:1", "no field \"description\"", "did you mean \"descripton\""});
  expect_refused("a.jsonl", R"({"description":null,"section":"s"})", routing_,
                 {"a.jsonl:1", "\"description\" is of type null"});
  expect_refused("a.jsonl", R"({"description":["d"],"section":"s"})", routing_, {"type array"});
  expect_refused("a.csv", "section,descripton\na,b\n", routing_,
                 {"a.csv:2", "did you mean \"descripton\""});
  expect_refused("a.csv", "x,y\na,b\n", routing_, {"a.csv:2", "it has [x, y]"});
}

TEST_F(SourcesTest, CsvErrorsNameTheLine) {
  expect_refused("a.csv", "section,description\na,b\nc\n", routing_,
                 {"a.csv:3", "1 fields", "header has 2"});
  expect_refused("a.csv", "section,description\na,b,c\n", routing_, {"a.csv:2", "3 fields"});
  expect_refused("a.csv", "section,section\na,b\n", routing_,
                 {"a.csv:1", "two columns", "section"});
  expect_refused("a.csv", "", routing_, {"a.csv", "header"});
  expect_refused("a.csv", "a,b\n1,2\n", {}, {"a.csv", "template"});
}

TEST_F(SourcesTest, AnEmptyAnswerIsAnError) {
  expect_refused("a.jsonl",
                 "{\"prompt\":\"p\",\"completion\":\"c\"}\n{\"prompt\":\"p\",\"completion\":\"\"}",
                 {}, {"a.jsonl:2", "the answer is empty"});
  expect_refused("a.csv", "x,y\n1,\n", {.prompt_template = "{x}", .answer_template = "{y}"},
                 {"a.csv:2", "the answer is empty"});
}

TEST_F(SourcesTest, BadTemplatesAreRefused) {
  for (const char* bad : {"{", "}", "{}", "a {b", "a} b", "{a{b}}", "{a}}"})
    expect_refused("a.jsonl", "{}", {.answer_template = bad}, {"template", "brace"});
  expect_refused("a.jsonl", "{}", {.prompt_template = "{a}"}, {"without an answer template"});
}

TEST_F(SourcesTest, BytesThatAreNoUtf8AreRefused) {
  for (const char* bad :
       {"\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe0\x80\x80",
        "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\x80", "\xe4\xbd", "\xf0\x9f\x98"})
    expect_refused("a.txt", concat("one\n\ntwo ", bad), {}, {"a.txt:3", "not UTF-8"});
  for (const char* good : {"\xc3\xa9", "\xe4\xbd\xa0", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf",
                           "\xed\x9f\xbf", "\xee\x80\x80"})
    EXPECT_EQ(read_one("a.txt", good), concat("{", good, "}"));
}

TEST_F(SourcesTest, FormatsByName) {
  EXPECT_EQ(parse_source_format("jsonl"), SourceFormat::kJsonl);
  EXPECT_EQ(parse_source_format("auto"), SourceFormat::kAuto);
  EXPECT_EQ(parse_source_format("text"), SourceFormat::kText);
  EXPECT_EQ(parse_source_format("csv"), SourceFormat::kCsv);
  expect_error<InvalidArgument>([] { parse_source_format("json"); },
                                {"\"json\"", "did you mean jsonl"});
  expect_refused("a.parquet", "x", {}, {"a.parquet", ".parquet", "set the format"});
  EXPECT_EQ(read_one("a.dat", "x", {.format = SourceFormat::kText}), "{x}");
  expect_error<InvalidArgument>([&] { for_each_record(env_, {}, [](const TextRecord&) {}); },
                                {"no source files"});
  expect_error<NotFound>(
      [&] { for_each_record(env_, {.paths = {path("absent.txt")}}, [](const TextRecord&) {}); },
      {"absent.txt"});
}

}  // namespace
}  // namespace deepseek_train::data
