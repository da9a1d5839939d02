#include "src/data/chunk_table.h"

#include <algorithm>
#include <cstring>

namespace deepseek_train::data {

void copy_rows(const ChunkTable& table, std::span<const std::byte> file, uint64_t begin,
               uint64_t end, void* to) {
  auto* out = static_cast<std::byte*>(to);
  while (begin < end) {
    const uint64_t in_chunk = begin % table.chunk_rows;
    const uint64_t count = std::min(end - begin, table.chunk_rows - in_chunk);
    const uint64_t address = table.addresses[begin / table.chunk_rows] + in_chunk * table.row_bytes;
    std::memcpy(out, file.data() + address, count * table.row_bytes);
    out += count * table.row_bytes;
    begin += count;
  }
}

}  // namespace deepseek_train::data
