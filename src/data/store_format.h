// The token store's layout as bytes (see token_store.h), and back. All use of HDF5 is behind these
// two functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "src/data/chunk_table.h"

namespace deepseek_train::data {

struct StoreAttributes {
  std::string tokenizer_sha256;
  std::string provenance;
};

// What stays in memory of an opened store.
struct StoreIndex {
  StoreAttributes attributes;
  ChunkTable tokens;
  std::vector<uint64_t> offsets;     // [n + 1]
  std::vector<uint64_t> loss_spans;  // triples (document, begin, end)
};

// The whole file. Holds HDF5's lock meanwhile.
std::vector<std::byte> encode_store(const StoreAttributes& attributes,
                                    std::span<const uint32_t> tokens,
                                    std::span<const uint64_t> offsets,
                                    std::span<const uint64_t> loss_spans);

// Parses a file and checks its structure: sizes against the file's, offsets rising from 0 to the
// number of tokens, spans in order and inside their documents, chunks inside the file. Throws
// DataCorruption, or InvalidArgument for a later version; the text does not name the file, which
// the caller does. Holds HDF5's lock meanwhile.
StoreIndex decode_store(std::span<const std::byte> file);

}  // namespace deepseek_train::data
