// The parts of a GGUF file in the order in which they lie: header, metadata, tensor list, data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "deepseek_train/formats/gguf.h"
#include "src/formats/byte_cursor.h"

namespace deepseek_train::formats {

struct GgufHeader {
  uint32_t version = 0;
  uint64_t num_tensors = 0;
  uint64_t num_metadata = 0;
};

// All throw DataCorruption. The cursor stands where the part before ended.
GgufHeader parse_gguf_header(ByteCursor& cursor);
std::map<std::string, GgufValue, std::less<>> parse_gguf_metadata(ByteCursor& cursor,
                                                                  uint64_t count);
// Tensors with their bytes; `file` is the whole file.
std::vector<GgufTensor> parse_gguf_tensors(ByteCursor& cursor, uint64_t count, uint64_t alignment,
                                           std::span<const std::byte> file);

}  // namespace deepseek_train::formats
