// model.safetensors.index.json: which shard holds which tensor.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "deepseek_train/formats/safetensors_folder.h"

namespace deepseek_train::formats {

struct SafetensorsIndex {
  std::map<std::string, std::string> weight_map;  // tensor -> file name
  std::optional<uint64_t> total_size;             // what "metadata" claims, in bytes
};

// Throws DataCorruption naming the file, and the tensor where one is wrong.
SafetensorsIndex parse_safetensors_index(std::string_view json_text, const std::string& path);
std::string format_safetensors_index(const ShardPlan& plan);

}  // namespace deepseek_train::formats
