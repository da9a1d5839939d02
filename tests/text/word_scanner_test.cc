// The scanners cut every text where PCRE2 cuts it by the same pattern.
#include "src/text/word_scanner.h"

#include <gtest/gtest.h>

#include <random>

#include "src/text/char_classes.h"
#include "src/text/regex.h"
#include "src/text/tokenizer_patterns.h"
#include "src/text/unicode.h"
#include "tests/support/trials.h"

namespace deepseek_train::text {
namespace {

constexpr std::string_view kPatterns[] = {kGpt2Pattern,
                                          kLlama3Pattern,
                                          kQwen2Pattern,
                                          kDigitGroupsPattern,
                                          kChinesePattern,
                                          kDeepSeekV3Pattern,
                                          kDeepSeekV3PatternAsPublished};

std::vector<std::string> scanned(std::string_view pattern, std::string_view text) {
  std::vector<std::string> pieces;
  const auto scan = find_word_scanner(pattern);
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    end = scan(text, begin);
    pieces.emplace_back(text.substr(begin, end - begin));
  }
  return pieces;
}

std::vector<std::string> searched(const Regex& regex, std::string_view text) {
  RegexScratch scratch;
  std::vector<Span> matches;
  regex.find_all(text, scratch, matches);
  std::vector<std::string> pieces;
  size_t done = 0;
  for (const Span& match : matches) {
    if (match.begin > done) pieces.emplace_back(text.substr(done, match.begin - done));
    pieces.emplace_back(text.substr(match.begin, match.end - match.begin));
    done = match.end;
  }
  if (done < text.size()) pieces.emplace_back(text.substr(done));
  return pieces;
}

// The class that PCRE2 gives a character: its Unicode may be older or newer than utf8proc's.
class PcreClasses {
 public:
  uint8_t of(const std::string& text) {
    uint8_t classes = 0;
    for (auto& [regex, bit] : tests_) {
      regex.find_all(text, scratch_, matches_);
      if (!matches_.empty()) classes |= bit;
    }
    return classes;
  }

 private:
  std::vector<std::pair<Regex, uint8_t>> tests_ = [] {
    std::vector<std::pair<Regex, uint8_t>> tests;
    tests.emplace_back(Regex(R"(\p{L})"), kLetter);
    tests.emplace_back(Regex(R"(\p{M})"), kMark);
    tests.emplace_back(Regex(R"(\p{N})"), kNumber);
    tests.emplace_back(Regex(R"(\p{P})"), kPunctuation);
    tests.emplace_back(Regex(R"(\p{S})"), kSymbol);
    tests.emplace_back(Regex(R"(\s)"), kSpace);
    tests.emplace_back(Regex(R"([\r\n])"), kLineEnd);
    return tests;
  }();
  RegexScratch scratch_;
  std::vector<Span> matches_;
};

std::string utf8(char32_t code_point) {
  std::string text;
  append_utf8(code_point, text);
  return text;
}

// Characters of which both libraries say the same.
const std::vector<std::string>& agreed_characters() {
  static const std::vector<std::string> characters = [] {
    PcreClasses pcre;
    std::vector<std::string> agreed;
    for (char32_t c = 0; c < 0x110000; c += c < 0x3100 ? 1 : 53) {
      if (c >= 0xd800 && c < 0xe000) continue;
      auto text = utf8(c);
      if (pcre.of(text) == CharClasses::get().of(c)) agreed.push_back(std::move(text));
    }
    return agreed;
  }();
  return characters;
}

TEST(CharClasses, AgreeWithPcre2ExceptForNewLetters) {
  // Two Unicode releases apart: some hundred characters of the 33,000 looked at.
  EXPECT_GT(agreed_characters().size(), 32'000u);
  EXPECT_EQ(CharClasses::get().of('\n'), kSpace | kLineEnd);
  EXPECT_EQ(CharClasses::get().of(U'中'), kLetter);
  EXPECT_EQ(CharClasses::get().of(0x1f600), kSymbol);
  EXPECT_EQ(CharClasses::get().of(0x301), kMark);
}

std::string random_text(std::mt19937& random) {
  // What the patterns tell apart, often; any other character, sometimes.
  static const std::vector<std::string> kCommon = {
      " ",  " ",       "\n",     "\r", "\t",   "\u00a0", "\u3000", "\u2028", "a",  "Z",  "s",  "S",
      "'",  "\u017f",  "t",      "re", "VE",   "ll",     "d",      "é",      "中", "カ", "・", "ー",
      "゠", "\u3099",  "1",      "2",  "٣",    "Ⅷ",      "²",      ".",      "-",  "!",  "$",  "€",
      "😀",  "e\u0301", "\u0301", "_",  "\x01", "\u200b", "\u180e", "\u0085", "/",  "\\", "[",  "]",
      "~",  "`",       "^",      "+",  "，"};
  const auto& characters = agreed_characters();
  std::string text;
  for (size_t i = random() % 24; i > 0; --i)
    text += random() % 4 ? kCommon[random() % kCommon.size()]
                         : characters[random() % characters.size()];
  return text;
}

TEST(WordScanner, CutsWherePcre2Cuts) {
  std::mt19937 random(3);
  std::vector<Regex> regexes;
  for (auto pattern : kPatterns) regexes.emplace_back(pattern);
  for (int trial = 0; trial < test_support::num_trials(20'000, 1'000'000); ++trial) {
    const auto text = random_text(random);
    for (size_t i = 0; i < regexes.size(); ++i)
      ASSERT_EQ(scanned(kPatterns[i], text), searched(regexes[i], text)) << kPatterns[i];
  }
}

TEST(WordScanner, EveryPairAndTripleOfWhatPatternsTellApart) {
  const std::vector<std::string> kinds = {"a", "Z", "'", "s",  " ",      "\n",   "\t",
                                          "1", ".", "$", "中", "\u0301", "\x01", "ー"};
  std::vector<Regex> regexes;
  for (auto pattern : kPatterns) regexes.emplace_back(pattern);
  for (const auto& a : kinds)
    for (const auto& b : kinds)
      for (const auto& c : kinds)
        for (const auto& d : kinds)
          for (size_t i = 0; i < regexes.size(); ++i)
            ASSERT_EQ(scanned(kPatterns[i], a + b + c + d), searched(regexes[i], a + b + c + d))
                << kPatterns[i] << " " << a << b << c << d;
}

TEST(WordScanner, OnlyExactPatternsAreKnown) {
  EXPECT_EQ(find_word_scanner(R"(\p{N}{1,4})"), nullptr);
  EXPECT_EQ(find_word_scanner(std::string(kQwen2Pattern) + " "), nullptr);
}

}  // namespace
}  // namespace deepseek_train::text
