// How Hugging Face names the files of a checkpoint.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace deepseek_train::formats {

// "model" -> "model.safetensors".
std::string single_file_name(std::string_view stem);
// "model" -> "model.safetensors.index.json".
std::string index_file_name(std::string_view stem);
// "model", 0, 3 -> "model-00001-of-00003.safetensors".
std::string shard_file_name(std::string_view stem, size_t index, size_t count);
// Whether the name is the stem's of some shard of some count.
bool is_shard_file_name(std::string_view stem, std::string_view name);

}  // namespace deepseek_train::formats
