#include "deepseek_train/data/batch.h"

#include <algorithm>

#include "deepseek_train/core/error.h"

namespace deepseek_train::data {
namespace {

// One document into its row, which holds the padding already.
void fill_row(const Document& document, int64_t length, int64_t* input_ids, int64_t* labels) {
  std::copy_n(document.tokens.begin(), length, input_ids);
  for (const LossSpan& span : document.loss_spans) {
    int64_t end = std::min(span.end, length);
    for (int64_t t = span.begin; t < end; ++t) labels[t] = input_ids[t];
  }
}

}  // namespace

int64_t Batch::num_loss_tokens() const {
  int64_t count = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = labels.begin() + row * columns;
    count += (columns - 1) - std::count(begin + 1, begin + columns, kIgnoreIndex);
  }
  return count;
}

Batch collate(std::span<const Document> documents, std::span<const int64_t> sample_indices,
              int64_t max_length, uint32_t pad_id) {
  DST_CHECK(!documents.empty(), "a batch needs a document");
  DST_CHECK(documents.size() == sample_indices.size(), documents.size(), " documents with ",
            sample_indices.size(), " sample indices; give one index for each document");
  DST_CHECK(max_length >= 1, "max_length is ", max_length, ", wanted at least 1");
  Batch batch;
  batch.rows = static_cast<int64_t>(documents.size());
  for (const Document& document : documents) {
    check_document(document);
    batch.lengths.push_back(std::min(static_cast<int64_t>(document.tokens.size()), max_length));
  }
  batch.columns = *std::max_element(batch.lengths.begin(), batch.lengths.end());
  batch.input_ids.assign(static_cast<size_t>(batch.rows * batch.columns), pad_id);
  batch.labels.assign(batch.input_ids.size(), kIgnoreIndex);
  batch.sample_indices.assign(sample_indices.begin(), sample_indices.end());
  for (int64_t row = 0; row < batch.rows; ++row)
    fill_row(documents[row], batch.lengths[row], batch.input_ids.data() + row * batch.columns,
             batch.labels.data() + row * batch.columns);
  return batch;
}

}  // namespace deepseek_train::data
