// Documents of token ids with loss spans, and where they come from.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace deepseek_train::data {

// Token positions [begin, end) of a document that are trained on.
struct LossSpan {
  int64_t begin = 0;
  int64_t end = 0;
  bool operator==(const LossSpan&) const = default;
};

// One training example. Spans are in rising order, do not overlap, and lie inside the tokens. The
// loss at a position is that of predicting the position's own token, so a span over the answer
// trains the answer.
struct Document {
  std::vector<uint32_t> tokens;
  std::vector<LossSpan> loss_spans;
  bool operator==(const Document&) const = default;
};

// Throws InvalidArgument unless the document has a token and its spans are as described above.
void check_document(const Document& document);

// Tokens that are both inside a span and predicted from something: the first token of a document
// never is.
int64_t num_loss_tokens(const Document& document);

// Documents by number. Every const method is thread-safe.
class Dataset {
 public:
  virtual ~Dataset() = default;
  // Number of documents.
  virtual int64_t size() const = 0;
  // A copy of document i, 0 <= i < size(); InvalidArgument otherwise.
  virtual Document document(int64_t i) const = 0;
};

// Documents held in memory: for tests and small sets.
class MemoryDataset final : public Dataset {
 public:
  // Checks every document.
  explicit MemoryDataset(std::vector<Document> documents);
  int64_t size() const override { return static_cast<int64_t>(documents_.size()); }
  Document document(int64_t i) const override;

 private:
  std::vector<Document> documents_;
};

}  // namespace deepseek_train::data
