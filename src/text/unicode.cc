#include "src/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "deepseek_train/core/error.h"

namespace deepseek_train::text {
namespace {

// Valid ranges of the second byte (Unicode standard, table 3-7); all later bytes are 80..BF.
struct LeadByte {
  size_t length;
  unsigned char second_min;
  unsigned char second_max;
};

LeadByte classify(unsigned char lead) {
  if (lead < 0xc2) return {0, 0, 0};
  if (lead < 0xe0) return {2, 0x80, 0xbf};
  if (lead == 0xe0) return {3, 0xa0, 0xbf};
  if (lead == 0xed) return {3, 0x80, 0x9f};
  if (lead < 0xf0) return {3, 0x80, 0xbf};
  if (lead == 0xf0) return {4, 0x90, 0xbf};
  if (lead < 0xf4) return {4, 0x80, 0xbf};
  if (lead == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

size_t valid_prefix(std::string_view text) {
  size_t position = 0;
  while (position < text.size()) {
    size_t length = decode_utf8(text.substr(position)).length;
    if (length == 0) break;
    position += length;
  }
  return position;
}

size_t invalid_prefix(std::string_view text) {
  size_t position = 0;
  while (position < text.size() && decode_utf8(text.substr(position)).length == 0) ++position;
  return position;
}

struct CodePoints {
  char32_t first, last;
};

// Characters that form C leaves as they are, whatever stands beside them: most of what is written.
constexpr CodePoints kInert[] = {
    {0x0, 0x2ff},     {0x400, 0x482},   {0x2010, 0x2027}, {0x2030, 0x205e},   {0x2190, 0x2199},
    {0x2460, 0x2adb}, {0x3001, 0x3029}, {0x3041, 0x3096}, {0x30a1, 0x30ff},   {0x3400, 0x4dbf},
    {0x4e00, 0x9fff}, {0xac00, 0xd7a3}, {0xff01, 0xff60}, {0x1f300, 0x1faff}, {0x20000, 0x2a6df}};

// What Unicode 10 and later added of characters that form C moves or composes. Hugging Face's
// normalizer keeps to Unicode 9: to it these are letters like others, and ids must be its.
constexpr CodePoints kNewer[] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},
    {0xc3c, 0xc3c},     {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0xece, 0xece},
    {0x1715, 0x1715},   {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},   {0xa82c, 0xa82c},
    {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50},
    {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e},
    {0x11839, 0x1183a}, {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193d, 0x1193e},
    {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47},
    {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97},
    {0x11f41, 0x11f42}, {0x16ff0, 0x16ff1}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae},
    {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef}};

template <size_t N>
bool is_in(const CodePoints (&ranges)[N], char32_t code_point) {
  for (const auto& range : ranges)
    if (code_point <= range.last) return code_point >= range.first;
  return false;
}

bool is_newer(char32_t code_point) { return code_point >= 0x7fd && is_in(kNewer, code_point); }

void append_composed(std::string_view text, std::string& result) {
  if (text.empty()) return;
  utf8proc_uint8_t* mapped = nullptr;
  auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                             static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                             static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  DST_CHECK_AS(Internal, length >= 0, "Unicode normalization failed: ", utf8proc_errmsg(length));
  result.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(length));
}

}  // namespace

DecodedChar decode_utf8(std::string_view text) {
  if (text.empty()) return {};
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return {byte(0), 1};
  LeadByte lead = classify(byte(0));
  if (lead.length == 0 || text.size() < lead.length) return {};
  if (byte(1) < lead.second_min || byte(1) > lead.second_max) return {};
  char32_t code_point = byte(0) & (0xff >> (lead.length + 1));
  for (size_t i = 1; i < lead.length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code_point = code_point << 6 | (byte(i) & 0x3f);
  }
  return {code_point, lead.length};
}

void append_utf8(char32_t code_point, std::string& text) {
  unsigned char bytes[4];
  auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

std::vector<Utf8Run> split_utf8_runs(std::string_view text) {
  std::vector<Utf8Run> runs;
  while (!text.empty()) {
    size_t length = valid_prefix(text);
    bool valid = length > 0;
    if (!valid) length = invalid_prefix(text);
    runs.push_back({text.substr(0, length), valid});
    text.remove_prefix(length);
  }
  return runs;
}

bool is_numeral(char32_t code_point) {
  if (code_point < 0x80) return code_point >= '0' && code_point <= '9';
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return true;
    default: return false;
  }
}

bool is_white_space(char32_t code_point) {
  return (code_point >= 0x09 && code_point <= 0x0d) || code_point == 0x20 || code_point == 0x85 ||
         code_point == 0xa0 || code_point == 0x1680 ||
         (code_point >= 0x2000 && code_point <= 0x200a) || code_point == 0x2028 ||
         code_point == 0x2029 || code_point == 0x202f || code_point == 0x205f ||
         code_point == 0x3000;
}

bool is_word_char(char32_t code_point) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return false;
  }
}

bool is_nfc_inert(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    if (static_cast<unsigned char>(text[i]) < 0xcc) {  // below U+0300
      ++i;
      continue;
    }
    const auto [code_point, length] = decode_utf8(text.substr(i));
    if (!is_in(kInert, code_point)) return false;
    i += std::max<size_t>(length, 1);
  }
  return true;
}

std::string to_nfc(std::string_view text) {
  if (is_nfc_inert(text)) return std::string(text);
  std::string result;
  size_t done = 0, position = 0;
  while (position < text.size()) {
    const auto [code_point, length] = decode_utf8(text.substr(position));
    if (is_newer(code_point)) {
      append_composed(text.substr(done, position - done), result);
      result += text.substr(position, length);
      done = position + length;
    }
    position += std::max<size_t>(length, 1);
  }
  append_composed(text.substr(done), result);
  return result;
}

}  // namespace deepseek_train::text
