#include "src/text/regex.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"

namespace deepseek_train::text {
namespace {

std::vector<std::string> matches_of(std::string_view pattern, std::string_view text) {
  RegexScratch scratch;
  std::vector<Span> spans;
  Regex(pattern).find_all(text, scratch, spans);
  std::vector<std::string> matches;
  for (const Span& span : spans)
    matches.emplace_back(text.substr(span.begin, span.end - span.begin));
  return matches;
}

using Strings = std::vector<std::string>;

TEST(Regex, FindsFromLeftToRight) {
  EXPECT_EQ(matches_of(R"(\p{N}{1,3})", "a12345b6"), (Strings{"123", "45", "6"}));
  EXPECT_EQ(matches_of(R"(\s+(?!\S)|\s+)", "a   b "), (Strings{"  ", " ", " "}));
  EXPECT_EQ(matches_of("[一-龥]+", "a中文b語"), (Strings{"中文", "語"}));
  EXPECT_TRUE(matches_of("x", "").empty());
}

TEST(Regex, WhiteSpaceIsUnicodes) {
  EXPECT_EQ(matches_of(R"(\s)", "\u0085\u00a0\u3000\u2028").size(), 4u);
  EXPECT_TRUE(matches_of(R"(\s)", "\u180e\u200b\ufeff").empty());
  EXPECT_EQ(matches_of(R"([^\s]+)", "\u180ex \u3000y"), (Strings{"\u180ex", "y"}));
  EXPECT_EQ(matches_of(R"(\S+)", "\u180ex \u3000y"), (Strings{"\u180ex", "y"}));
}

TEST(RegexSyntax, OnlyWhiteSpaceIsTranslated) {
  EXPECT_EQ(to_pcre2_syntax(R"([^\r\n\p{L}]?\p{L}+|[\[\]a]|\\s|[]a])"),
            R"([^\r\n\p{L}]?\p{L}+|[\[\]a]|\\s|[]a])");
  EXPECT_TRUE(to_pcre2_syntax(R"(a\s)").starts_with("a[\\x{09}"));
  EXPECT_TRUE(to_pcre2_syntax(R"(\S)").starts_with("[^\\x{09}"));
  EXPECT_TRUE(to_pcre2_syntax(R"([^\sa])").starts_with("[^\\x{09}"));
}

TEST(Regex, DeepBacktrackingDoesNotRunOutOfStack) {
  // Every 'ab' is a group to go back into.
  std::string text;
  for (int i = 0; i < 50'000; ++i) text += "ab";
  EXPECT_EQ(matches_of("(?:a|b|ab)+", text).size(), 1u);
}

TEST(Regex, SearchesThatCannotEndAreStopped) {
  EXPECT_THROW(matches_of("(?:a+)+[bc]", std::string(200, 'a') + "d"), Internal);
}

}  // namespace
}  // namespace deepseek_train::text
