#include "src/data/csv.h"

#include "tests/data/support.h"

namespace deepseek_train::data {
namespace {

using Fields = std::vector<std::string>;

std::vector<CsvRow> read_rows(std::string_view text) {
  CsvReader reader("a.csv", text);
  std::vector<CsvRow> rows;
  while (auto row = reader.next()) rows.push_back(*row);
  return rows;
}

std::vector<Fields> read_fields(std::string_view text) {
  std::vector<Fields> all;
  for (CsvRow& row : read_rows(text)) all.push_back(row.fields);
  return all;
}

TEST(Csv, PlainRows) {
  EXPECT_EQ(read_fields("a,b\n1,2\n"), (std::vector<Fields>{{"a", "b"}, {"1", "2"}}));
  EXPECT_EQ(read_fields("a,b\r\n1,2"), (std::vector<Fields>{{"a", "b"}, {"1", "2"}}));
  EXPECT_EQ(read_fields(""), std::vector<Fields>{});
  EXPECT_EQ(read_fields("\n\r\n\n"), std::vector<Fields>{});
}

TEST(Csv, EmptyFields) {
  EXPECT_EQ(read_fields(",,\n"), (std::vector<Fields>{{"", "", ""}}));
  EXPECT_EQ(read_fields("a,"), (std::vector<Fields>{{"a", ""}}));
  EXPECT_EQ(read_fields(",a"), (std::vector<Fields>{{"", "a"}}));
  EXPECT_EQ(read_fields("\"\",\"\"\n"), (std::vector<Fields>{{"", ""}}));
  EXPECT_EQ(read_fields("\"\"\n"), (std::vector<Fields>{{""}}));
}

TEST(Csv, QuotedFields) {
  EXPECT_EQ(read_fields(R"("a,b","c ""d"" e","""",""""""
)"),
            (std::vector<Fields>{{"a,b", "c \"d\" e", "\"", "\"\""}}));
  EXPECT_EQ(read_fields("\"a\nb\r\nc\",d\r\ne,f"),
            (std::vector<Fields>{{"a\nb\r\nc", "d"}, {"e", "f"}}));
  EXPECT_EQ(read_fields("\"last\""), (std::vector<Fields>{{"last"}}));
}

TEST(Csv, SpacesAndLoneCarriageReturnsAreData) {
  EXPECT_EQ(read_fields(" a , b \n"), (std::vector<Fields>{{" a ", " b "}}));
  EXPECT_EQ(read_fields("a\rb,c\r"), (std::vector<Fields>{{"a\rb", "c\r"}}));
}

TEST(Csv, RowsKnowTheirFirstLine) {
  auto rows = read_rows("h\n\"two\nlines\"\n\n\"a\r\nb\nc\"\nlast");
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0].line, 1);
  EXPECT_EQ(rows[1].line, 2);
  EXPECT_EQ(rows[2].line, 5);
  EXPECT_EQ(rows[3].line, 8);
}

TEST(Csv, BadQuotesNameTheirLine) {
  expect_error<InvalidArgument>([] { read_rows("h\na,\"never\nclosed\n"); },
                                {"a.csv:2", "never closed"});
  expect_error<InvalidArgument>([] { read_rows("h\n\nab\"c\n"); }, {"a.csv:3", "quote inside"});
  expect_error<InvalidArgument>([] { read_rows("\"x\ny\"z,1\n"); },
                                {"a.csv:2", "'z' behind a closing quote"});
  expect_error<InvalidArgument>([] { read_rows("\""); }, {"a.csv:1", "never closed"});
  expect_error<InvalidArgument>([] { read_rows("\"\"\""); }, {"a.csv:1", "never closed"});
}

// What any writer that follows the RFC writes is read back.
TEST(Csv, RoundTripOfAwkwardFields) {
  const std::vector<std::string> pieces = {"", "a", ",", "\"", "\n", "\r\n", "\r", " ", "\xc3\xa9"};
  std::string text;
  std::vector<Fields> expected;
  for (const std::string& a : pieces)
    for (const std::string& b : pieces)
      for (const std::string& c : pieces) {
        expected.push_back({a + b + c, c + a});
        for (size_t i = 0; i < 2; ++i) {
          text += i ? ",\"" : "\"";
          for (char letter : expected.back()[i])
            text += letter == '"' ? "\"\"" : std::string(1, letter);
          text += '"';
        }
        text += "\r\n";
      }
  EXPECT_EQ(read_fields(text), expected);
}

}  // namespace
}  // namespace deepseek_train::data
