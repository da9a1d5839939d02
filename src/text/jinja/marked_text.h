// Text that remembers which message of a conversation each of its bytes came from, through every
// operation a chat template does to it. The loss mask is read off the result.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace deepseek_train::text::jinja {

// Bytes [begin, end) of a text are those of message `message` from `source` on; kDerived where they
// were made from it (JSON of it) and are not its bytes.
struct Mark {
  static constexpr size_t kDerived = SIZE_MAX;
  size_t begin = 0;
  size_t end = 0;
  int32_t message = 0;
  size_t source = 0;
};

// The template's own text has no marks. Marks are in order and do not overlap.
class MarkedText {
 public:
  MarkedText() = default;
  explicit MarkedText(std::string bytes) : bytes_(std::move(bytes)) {}
  // All of it from a message's content.
  static MarkedText of_message(std::string content, int32_t message);

  const std::string& bytes() const { return bytes_; }
  const std::vector<Mark>& marks() const { return marks_; }
  size_t size() const { return bytes_.size(); }

  void append(std::string_view bytes) { bytes_ += bytes; }
  void append(const MarkedText& other);
  MarkedText substr(size_t begin, size_t count = std::string::npos) const;
  // New bytes made from this text: one mark over all of them if this text has any.
  MarkedText derive(std::string bytes) const;
  // As many bytes as before, each made from the one at its place (upper case of ASCII).
  MarkedText map_bytes(std::string bytes) const;

 private:
  void add_mark(Mark mark);

  std::string bytes_;
  std::vector<Mark> marks_;
};

}  // namespace deepseek_train::text::jinja
