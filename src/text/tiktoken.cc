// OpenAI's .tiktoken files: "BASE64 RANK" lines.
#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "deepseek_train/core/error.h"
#include "deepseek_train/text/tokenizer.h"
#include "src/text/byte_alphabet.h"

namespace deepseek_train::text {
namespace {

int digit_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

std::string decode_base64(std::string_view text, size_t line) {
  const size_t size = std::min(text.find('='), text.size());
  const bool padded = text.size() % 4 == 0 && text.size() - size <= 2 &&
                      text.find_first_not_of('=', size) == text.npos;
  DST_CHECK_AS(DataCorruption, padded && !text.empty(), "line ", line, " of the tiktoken file: \"",
               text, "\" is not base64");
  std::string bytes;
  uint32_t bits = 0;
  int num_bits = 0;
  for (char c : text.substr(0, size)) {
    const int digit = digit_of(c);
    DST_CHECK_AS(DataCorruption, digit >= 0, "line ", line, " of the tiktoken file: \"", text,
                 "\" is not base64");
    bits = bits << 6 | static_cast<uint32_t>(digit);
    num_bits += 6;
    if (num_bits < 8) continue;
    num_bits -= 8;
    bytes += static_cast<char>(bits >> num_bits & 0xff);
  }
  return bytes;
}

std::string parse_line(std::string_view text, size_t line, size_t wanted_rank) {
  const size_t space = std::min(text.find(' '), text.size());
  const auto digits = text.substr(std::min(space + 1, text.size()));
  size_t rank = 0;
  auto result = std::from_chars(digits.data(), digits.data() + digits.size(), rank);
  DST_CHECK_AS(DataCorruption,
               !digits.empty() && result.ec == std::errc() &&
                   result.ptr == digits.data() + digits.size() && rank == wanted_rank,
               "line ", line,
               " of the tiktoken file: wanted a token in base64, a space and the rank ",
               wanted_rank, ", found \"", text.substr(0, 80), "\"");
  return decode_base64(text.substr(0, space), line);
}

std::vector<std::string> parse_tokens(std::string_view text) {
  std::vector<std::string> tokens;
  size_t line = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    auto row = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line;
    if (row.ends_with('\r')) row.remove_suffix(1);
    if (!row.empty()) tokens.push_back(parse_line(row, line, tokens.size()));
  }
  DST_CHECK_AS(DataCorruption, !tokens.empty(), "the tiktoken file is empty");
  return tokens;
}

std::string spelled(std::string_view bytes) {
  std::string token;
  for (char c : bytes) token += byte_char(static_cast<unsigned char>(c));
  return token;
}

}  // namespace

BpeVocabulary parse_tiktoken(std::string_view text, std::string pre) {
  const auto tokens = parse_tokens(text);
  std::unordered_map<std::string_view, size_t> ranks;
  for (size_t i = 0; i < tokens.size(); ++i)
    DST_CHECK_AS(DataCorruption, ranks.emplace(tokens[i], i).second,
                 "the tiktoken file gives the token of rank ", i, " twice");
  BpeVocabulary vocabulary;
  vocabulary.pre = std::move(pre);
  for (const auto& token : tokens) {
    vocabulary.tokens.push_back(spelled(token));
    struct Split {
      size_t left_rank, right_rank, left_size;
    };
    std::vector<Split> splits;
    for (size_t size = 1; size < token.size(); ++size) {
      const auto left = ranks.find(std::string_view(token).substr(0, size));
      const auto right = ranks.find(std::string_view(token).substr(size));
      if (left != ranks.end() && right != ranks.end())
        splits.push_back({left->second, right->second, size});
    }
    // As Hugging Face's converter orders the merges that make the same token.
    std::sort(splits.begin(), splits.end(), [](const Split& a, const Split& b) {
      return std::pair(a.left_rank, a.right_rank) < std::pair(b.left_rank, b.right_rank);
    });
    for (const Split& split : splits)
      vocabulary.merges.push_back(
          concat(spelled(std::string_view(token).substr(0, split.left_size)), " ",
                 spelled(std::string_view(token).substr(split.left_size))));
  }
  return vocabulary;
}

}  // namespace deepseek_train::text
