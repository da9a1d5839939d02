// What ggml's tensor types are called and how many bytes their blocks take.
#pragma once

#include <cstdint>

#include "deepseek_train/formats/gguf.h"

namespace deepseek_train::formats {

// Values are stored in blocks along the innermost dimension.
struct GgmlTypeInfo {
  GgmlType type;
  const char* name;
  uint32_t values_per_block;
  uint32_t bytes_per_block;
};

// nullptr for a number that ggml does not have (or has no more).
const GgmlTypeInfo* find_ggml_type(uint32_t number);

}  // namespace deepseek_train::formats
