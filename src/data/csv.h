// CSV as RFC 4180 has it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deepseek_train::data {

struct CsvRow {
  int64_t line;  // where the row begins, from 1
  std::vector<std::string> fields;
};

// Walks over rows of comma-separated fields. A field in quotes may hold commas, line ends and
// doubled quotes. Rows end with LF or CRLF; empty lines are passed over. InvalidArgument, naming
// path and line, on text around or missing quotes. Borrows the text.
class CsvReader {
 public:
  CsvReader(std::string path, std::string_view text) : path_(std::move(path)), text_(text) {}
  std::optional<CsvRow> next();

 private:
  std::string read_field();
  std::string read_quoted_field();
  bool at_line_end() const;
  void skip_line_end();
  bool done() const { return at_ == text_.size(); }

  std::string path_;
  std::string_view text_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace deepseek_train::data
