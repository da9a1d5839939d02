#include "deepseek_train/data/dataset.h"

#include <algorithm>

#include "deepseek_train/core/error.h"

namespace deepseek_train::data {

void check_document(const Document& document) {
  DST_CHECK(!document.tokens.empty(), "a document has no token; leave empty documents out");
  const auto length = static_cast<int64_t>(document.tokens.size());
  int64_t previous_end = 0;
  for (const LossSpan& span : document.loss_spans) {
    DST_CHECK(previous_end <= span.begin && span.begin < span.end && span.end <= length,
              "loss span [", span.begin, ", ", span.end, ") is not in order within a document of ",
              length, " tokens (the span before it ends at ", previous_end,
              "); spans must rise and not overlap");
    previous_end = span.end;
  }
}

int64_t num_loss_tokens(const Document& document) {
  int64_t count = 0;
  for (const LossSpan& span : document.loss_spans)
    count += span.end - std::max<int64_t>(span.begin, 1);
  return count;
}

MemoryDataset::MemoryDataset(std::vector<Document> documents) : documents_(std::move(documents)) {
  for (const Document& document : documents_) check_document(document);
}

Document MemoryDataset::document(int64_t i) const {
  DST_CHECK(0 <= i && i < size(), "document ", i, " asked for, the set has ", size());
  return documents_[static_cast<size_t>(i)];
}

}  // namespace deepseek_train::data
