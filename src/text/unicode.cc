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

std::string to_nfc(std::string_view text) {
  // Everything below U+0300 (lead bytes up to CB) is in form C by itself and combines with nothing
  // before it.
  bool unchanged = std::all_of(text.begin(), text.end(),
                               [](char c) { return static_cast<unsigned char>(c) < 0xcc; });
  if (unchanged) return std::string(text);
  utf8proc_uint8_t* mapped = nullptr;
  auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                             static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                             static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  DST_CHECK_AS(Internal, length >= 0, "Unicode normalization failed: ", utf8proc_errmsg(length));
  return std::string(reinterpret_cast<const char*>(mapped), static_cast<size_t>(length));
}

}  // namespace deepseek_train::text
