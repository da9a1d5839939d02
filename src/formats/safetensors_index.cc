#include "src/formats/safetensors_index.h"

#include "deepseek_train/core/error.h"
#include "src/formats/strict_json.h"

namespace deepseek_train::formats {
namespace {

using Json = nlohmann::json;

// A name, and not a path that leaves the folder.
void check_shard_name(const Json& shard, const std::string& where) {
  DST_CHECK_AS(DataCorruption, shard.is_string(), where, " is placed in ", shard.type_name(),
               ", wanted a file name");
  const auto& name = shard.get_ref<const std::string&>();
  DST_CHECK_AS(DataCorruption,
               name.ends_with(".safetensors") && name.find('/') == std::string::npos, where,
               " is placed in \"", name, "\", wanted a .safetensors file in the folder itself");
}

}  // namespace

SafetensorsIndex parse_safetensors_index(std::string_view json_text, const std::string& path) {
  const Json json = parse_strict_json(json_text, path);
  DST_CHECK_AS(DataCorruption,
               json.is_object() && json.contains("weight_map") && json["weight_map"].is_object(),
               path, " has no object \"weight_map\"; download it again");
  SafetensorsIndex index;
  for (const auto& [tensor, shard] : json["weight_map"].items()) {
    check_shard_name(shard, concat(path, ": tensor \"", tensor, "\""));
    index.weight_map.emplace(tensor, shard.get<std::string>());
  }
  const auto total_size = Json::json_pointer("/metadata/total_size");
  if (json.contains(total_size) && json[total_size].is_number_unsigned())
    index.total_size = json[total_size].get<uint64_t>();
  return index;
}

std::string format_safetensors_index(const ShardPlan& plan) {
  uint64_t total_size = 0;
  Json weight_map = Json::object();
  for (const auto& shard : plan.shards) {
    for (const auto& tensor : shard.tensors) {
      total_size += size_bytes(tensor);
      weight_map[tensor.name] = shard.file_name;
    }
  }
  const Json index = {{"metadata", {{"total_size", total_size}}}, {"weight_map", weight_map}};
  return index.dump(2, ' ', /*ensure_ascii=*/true) + "\n";
}

}  // namespace deepseek_train::formats
