// Where the chunks of a dataset lie in its file, so that rows are read without HDF5.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace deepseek_train::data {

// All chunks lie inside the file: whoever fills the table has checked it.
struct ChunkTable {
  uint64_t num_rows = 0;
  uint64_t row_bytes = 0;
  uint64_t chunk_rows = 1;          // the last chunk may be used in part
  std::vector<uint64_t> addresses;  // byte offsets in the file
};

// Copies rows [begin, end), begin <= end <= num_rows, out of as many chunks as they touch.
void copy_rows(const ChunkTable& table, std::span<const std::byte> file, uint64_t begin,
               uint64_t end, void* to);

}  // namespace deepseek_train::data
