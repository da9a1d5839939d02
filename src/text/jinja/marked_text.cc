#include "src/text/jinja/marked_text.h"

#include <algorithm>

namespace deepseek_train::text::jinja {

MarkedText MarkedText::of_message(std::string content, int32_t message) {
  MarkedText text(std::move(content));
  if (!text.bytes_.empty()) text.marks_.push_back({0, text.bytes_.size(), message, 0});
  return text;
}

// Pieces that follow one another in the message too become one mark.
void MarkedText::add_mark(Mark mark) {
  if (!marks_.empty()) {
    Mark& last = marks_.back();
    const bool adjacent = last.end == mark.begin && last.message == mark.message;
    const bool derived = last.source == Mark::kDerived || mark.source == Mark::kDerived;
    const bool continues =
        derived ? last.source == mark.source : last.source + (last.end - last.begin) == mark.source;
    if (adjacent && continues) {
      last.end = mark.end;
      return;
    }
  }
  marks_.push_back(mark);
}

void MarkedText::append(const MarkedText& other) {
  const size_t offset = bytes_.size();
  for (Mark mark : other.marks_) {
    mark.begin += offset;
    mark.end += offset;
    add_mark(mark);
  }
  bytes_ += other.bytes_;
}

MarkedText MarkedText::substr(size_t begin, size_t count) const {
  MarkedText part(bytes_.substr(begin, count));
  const size_t end = begin + part.bytes_.size();
  for (const Mark& mark : marks_) {
    const size_t from = std::max(mark.begin, begin), to = std::min(mark.end, end);
    if (from >= to) continue;
    const bool derived = mark.source == Mark::kDerived;
    const size_t source = derived ? Mark::kDerived : mark.source + (from - mark.begin);
    part.marks_.push_back({from - begin, to - begin, mark.message, source});
  }
  return part;
}

MarkedText MarkedText::derive(std::string bytes) const {
  MarkedText made(std::move(bytes));
  if (!marks_.empty() && !made.bytes_.empty())
    made.marks_.push_back({0, made.bytes_.size(), marks_.front().message, Mark::kDerived});
  return made;
}

MarkedText MarkedText::map_bytes(std::string bytes) const {
  MarkedText made(std::move(bytes));
  made.marks_ = marks_;
  return made;
}

}  // namespace deepseek_train::text::jinja
