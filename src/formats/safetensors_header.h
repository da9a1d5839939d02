// The JSON header of a safetensors file, to and from text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek_train/formats/safetensors.h"

namespace deepseek_train::formats {

// Hugging Face's own cap: keeps a hostile length from costing memory.
constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
constexpr uint64_t kSafetensorsLengthBytes = 8;

// A tensor and where it lies, in bytes from the end of the header.
struct PlacedTensor {
  TensorInfo info;
  uint64_t begin = 0;
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<PlacedTensor> tensors;  // by offset
  StringMap metadata;
};

// Parses and checks everything that can be known without the file's size. Throws DataCorruption;
// `path` is for its text.
SafetensorsHeader parse_safetensors_header(std::string_view json_text, const std::string& path);

// Length prefix and header, padded with spaces so that the data starts at a multiple of 8.
std::string format_safetensors_header(const std::vector<TensorInfo>& tensors,
                                      const StringMap& metadata);

}  // namespace deepseek_train::formats
