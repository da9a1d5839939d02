#include "src/data/csv.h"

#include <algorithm>

#include "deepseek_train/core/error.h"
#include "src/data/text_file.h"

namespace deepseek_train::data {

// A carriage return alone is data; only before a line feed does it end a row.
bool CsvReader::at_line_end() const {
  return text_[at_] == '\n' ||
         (text_[at_] == '\r' && at_ + 1 < text_.size() && text_[at_ + 1] == '\n');
}

void CsvReader::skip_line_end() {
  at_ += text_[at_] == '\r' ? 2 : 1;
  ++line_;
}

std::optional<CsvRow> CsvReader::next() {
  while (!done() && at_line_end()) skip_line_end();
  if (done()) return std::nullopt;
  CsvRow row{line_, {}};
  while (true) {
    row.fields.push_back(read_field());
    if (done()) return row;
    if (at_line_end()) break;
    ++at_;  // a comma: read_field stops nowhere else
  }
  skip_line_end();
  return row;
}

std::string CsvReader::read_field() {
  if (!done() && text_[at_] == '"') return read_quoted_field();
  const size_t begin = at_;
  while (!done() && text_[at_] != ',' && !at_line_end()) {
    DST_CHECK(text_[at_] != '"', place_of(path_, line_),
              ": a quote inside a field that does not begin with one; put the field in quotes and "
              "double its quotes");
    ++at_;
  }
  return std::string(text_.substr(begin, at_ - begin));
}

std::string CsvReader::read_quoted_field() {
  const int64_t first_line = line_;
  std::string field;
  while (true) {
    const size_t begin = ++at_;  // behind the opening quote, or the second of a doubled one
    const size_t quote = text_.find('"', begin);
    DST_CHECK(quote != std::string_view::npos, place_of(path_, first_line),
              ": the quote that opens here is never closed");
    field += text_.substr(begin, quote - begin);
    line_ += std::count(text_.begin() + static_cast<std::ptrdiff_t>(begin),
                        text_.begin() + static_cast<std::ptrdiff_t>(quote), '\n');
    at_ = quote + 1;
    if (done() || text_[at_] != '"') break;
    field += '"';
  }
  DST_CHECK(done() || text_[at_] == ',' || at_line_end(), place_of(path_, line_), ": found '",
            text_[at_],
            "' behind a closing quote, wanted a comma or the end of the line; double the quotes "
            "inside the field");
  return field;
}

}  // namespace deepseek_train::data
