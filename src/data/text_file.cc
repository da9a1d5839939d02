#include "src/data/text_file.h"

#include <algorithm>

#include "deepseek_train/core/error.h"

namespace deepseek_train::data {
namespace {

// Bytes of the well-formed UTF-8 sequence at the head of `text` (Unicode 15, table 3-7), or 0.
size_t sequence_length(std::string_view text) {
  auto byte = [text](size_t i) {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0};
  };
  auto continues = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xc2) return 0;
  if (lead < 0xe0) return continues(1) ? 2 : 0;
  if (lead < 0xf0) {
    const bool overlong = lead == 0xe0 && byte(1) < 0xa0;
    const bool surrogate = lead == 0xed && byte(1) >= 0xa0;
    return continues(1) && continues(2) && !overlong && !surrogate ? 3 : 0;
  }
  const bool out_of_range =
      lead > 0xf4 || (lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) >= 0x90);
  return continues(1) && continues(2) && continues(3) && !out_of_range ? 4 : 0;
}

void check_utf8(const std::string& path, std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = sequence_length(text.substr(at));
    if (length == 0) {
      auto line =
          1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
      throw InvalidArgument(
          concat(place_of(path, line), ": byte ", static_cast<int>(static_cast<uint8_t>(text[at])),
                 " is not UTF-8; convert the file, for instance with iconv -t UTF-8"));
    }
    at += length;
  }
}

}  // namespace

std::string place_of(const std::string& path, int64_t line) { return concat(path, ":", line); }

TextFile::TextFile(Env& env, const std::string& path) : path_(path), file_(env.open(path)) {
  auto bytes = file_->bytes();
  text_ = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  if (text_.starts_with("\xef\xbb\xbf")) text_.remove_prefix(3);
  check_utf8(path_, text_);
}

std::optional<Line> LineReader::next() {
  if (rest_.empty()) return std::nullopt;
  size_t end = std::min(rest_.find('\n'), rest_.size());
  std::string_view text = rest_.substr(0, end);
  rest_.remove_prefix(std::min(end + 1, rest_.size()));
  if (text.ends_with('\r')) text.remove_suffix(1);
  return Line{++number_, text};
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

}  // namespace deepseek_train::data
