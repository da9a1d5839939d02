// A UTF-8 file and its lines.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "deepseek_train/core/env.h"

namespace deepseek_train::data {

// "path:line".
std::string place_of(const std::string& path, int64_t line);

// Maps a file and checks that it is UTF-8; a byte order mark is left out of text().
class TextFile {
 public:
  // InvalidArgument names the line of the first byte that is no UTF-8.
  TextFile(Env& env, const std::string& path);
  const std::string& path() const { return path_; }
  std::string_view text() const { return text_; }

 private:
  std::string path_;
  std::unique_ptr<ReadableFile> file_;
  std::string_view text_;  // of file_
};

struct Line {
  int64_t number;  // from 1
  std::string_view text;
};

// Walks over lines ended by LF or CRLF; the last one needs no end.
class LineReader {
 public:
  explicit LineReader(std::string_view text) : rest_(text) {}
  std::optional<Line> next();

 private:
  std::string_view rest_;
  int64_t number_ = 0;
};

// Only spaces, tabs and line ends.
bool is_blank(std::string_view text);

}  // namespace deepseek_train::data
