// A rectangle of tokens, ready to become tensors of shape [rows, columns].
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "deepseek_train/data/dataset.h"

namespace deepseek_train::data {

// The label of a position without loss, as in PyTorch's and Hugging Face's losses.
inline constexpr int64_t kIgnoreIndex = -100;

// Row-major. Labels stand at the position of their own token (Hugging Face's convention): the model
// shifts, so position t is predicted from positions < t, and labels[row * columns] never takes part
// in a loss.
struct Batch {
  int64_t rows = 0;
  int64_t columns = 0;                  // the longest row: nothing is padded further
  std::vector<int64_t> input_ids;       // [rows, columns], padded on the right with the pad id
  std::vector<int64_t> labels;          // [rows, columns], kIgnoreIndex where there is no loss
  std::vector<int64_t> lengths;         // [rows], tokens before the padding
  std::vector<int64_t> sample_indices;  // [rows], the documents' numbers in the dataset

  // Predicted labels: those that are not kIgnoreIndex, column 0 aside. The sum over all ranks
  // divides the loss.
  int64_t num_loss_tokens() const;
  bool operator==(const Batch&) const = default;
};

// Pads documents to a batch, each cut to its first `max_length` tokens. sample_indices[i] belongs
// to documents[i].
Batch collate(std::span<const Document> documents, std::span<const int64_t> sample_indices,
              int64_t max_length, uint32_t pad_id);

}  // namespace deepseek_train::data
