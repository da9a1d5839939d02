#include "src/text/unicode.h"

#include <gtest/gtest.h>

#include "src/text/byte_alphabet.h"

namespace deepseek_train::text {
namespace {

TEST(Utf8, EveryCodePointComesBack) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string text;
    append_utf8(c, text);
    auto decoded = decode_utf8(text);
    ASSERT_EQ(decoded.code_point, c);
    ASSERT_EQ(decoded.length, text.size());
  }
}

TEST(Utf8, WhatIsNotUtf8IsRefused) {
  for (const char* text : {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x9f\xbf",
                           "\xed\xa0\x80", "\xe4\xb8", "\xe4\xb8x", "\xf0\x8f\xbf\xbf",
                           "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", ""})
    EXPECT_EQ(decode_utf8(text).length, 0u) << text;
}

TEST(Utf8, RunsAreAsLongAsTheyCanBe) {
  auto runs = split_utf8_runs("a中\xff\xc3z\xe4\xb8");
  ASSERT_EQ(runs.size(), 4u);
  EXPECT_EQ(runs[0].text, "a中");
  EXPECT_TRUE(runs[0].valid);
  EXPECT_EQ(runs[1].text, "\xff\xc3");
  EXPECT_FALSE(runs[1].valid);
  EXPECT_EQ(runs[2].text, "z");
  EXPECT_EQ(runs[3].text, "\xe4\xb8");
  EXPECT_TRUE(split_utf8_runs("").empty());
}

TEST(Nfc, ComposesAndKeepsTheRest) {
  EXPECT_EQ(to_nfc("e\u0301"), "\u00e9");
  EXPECT_EQ(to_nfc("\u212b"), "\u00c5");
  EXPECT_EQ(to_nfc("\u1100\u1161"), "\uac00");
  EXPECT_EQ(to_nfc("plain é"), "plain é");
  EXPECT_EQ(to_nfc(std::string_view("a\0e\u0301", 5)), std::string_view("a\0\u00e9", 4));
}

// Each character with marks of the highest and the lowest class around it: those that are taken for
// inert must come out as utf8proc's own composition has them.
TEST(Nfc, TheShortcutsChangeNothing) {
  int changed = 0;
  for (char32_t c = 0; c < 0x30000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string alone;
    append_utf8(c, alone);
    for (const auto& text : {alone, "q" + alone, "か" + alone}) {
      // The mark at the end takes away every shortcut; it composes with nothing before it.
      const auto whole = to_nfc(text + " q\u0334");
      ASSERT_EQ(to_nfc(text) + " q\u0334", whole) << std::hex << static_cast<uint32_t>(c);
      changed += whole != text + " q\u0334";
    }
  }
  EXPECT_GT(changed, 1000);
}

TEST(Nfc, MarksNewerThanUnicode9StayInTheirPlace) {
  EXPECT_EQ(to_nfc("q\U00011839\u0334"), "q\U00011839\u0334");
  EXPECT_EQ(to_nfc("q\u0301\u0334"), "q\u0334\u0301");
  EXPECT_EQ(to_nfc("e\u1df6\u0301"), "e\u1df6\u0301");
}

TEST(CharClasses, Samples) {
  EXPECT_TRUE(is_numeral('7') && is_numeral(U'²') && is_numeral(U'Ⅷ') && is_numeral(U'٣'));
  EXPECT_FALSE(is_numeral('a') || is_numeral(U'一'));
  EXPECT_TRUE(is_white_space(' ') && is_white_space(0x3000) && is_white_space(0x85));
  EXPECT_FALSE(is_white_space(0x180e) || is_white_space(0x200b));
  EXPECT_TRUE(is_word_char('_') && is_word_char(U'é') && is_word_char(0x301) && is_word_char('0'));
  EXPECT_FALSE(is_word_char('-') || is_word_char(' ') || is_word_char(U'€'));
}

TEST(ByteAlphabet, SpellsEveryByte) {
  for (int byte = 0; byte < 256; ++byte) {
    auto c = static_cast<char>(byte);
    EXPECT_EQ(bytes_of_token(byte_char(static_cast<unsigned char>(byte))), std::string(1, c));
  }
  EXPECT_EQ(byte_char(' '), "Ġ");
  EXPECT_EQ(byte_char('\n'), "Ċ");
  EXPECT_EQ(byte_char('a'), "a");
  EXPECT_EQ(byte_char(0xad), "\u0143");
  EXPECT_EQ(bytes_of_token("a b"), std::nullopt);
  EXPECT_EQ(bytes_of_token("中"), std::nullopt);
}

}  // namespace
}  // namespace deepseek_train::text
