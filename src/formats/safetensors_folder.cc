#include "deepseek_train/formats/safetensors_folder.h"

#include <set>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"
#include "src/formats/safetensors_index.h"
#include "src/formats/shard_names.h"

namespace deepseek_train::formats {
namespace {

// Of the files that the index names and those in the folder, neither may be missing.
void check_files(Env& env, const std::string& folder, std::string_view stem,
                 const std::set<std::string>& named) {
  const auto index_name = index_file_name(stem);
  for (const auto& name : named)
    DST_CHECK_AS(NotFound, env.exists(join_path(folder, name)), folder, " has no ", name,
                 ", which ", index_name, " names; download or copy it again");
  for (const auto& name : env.list(folder))
    DST_CHECK_AS(DataCorruption, named.contains(name) || !is_shard_file_name(stem, name), folder,
                 " holds ", name, ", which ", index_name,
                 " does not name: it is left over from another checkpoint; remove it");
  DST_CHECK_AS(DataCorruption, !env.exists(join_path(folder, single_file_name(stem))), folder,
               " holds both ", single_file_name(stem), " and ", index_name,
               ": two checkpoints; remove one");
}

std::string file_name(const SafetensorsFile& shard) {
  return shard.path().substr(shard.path().find_last_of('/') + 1);
}

// Every tensor of the shard must be in the index, under this shard's name.
void check_shard(const SafetensorsFile& shard, const SafetensorsIndex& index,
                 const std::string& index_name) {
  const auto name = file_name(shard);
  for (const auto& tensor : shard.tensors()) {
    const auto found = index.weight_map.find(tensor.name);
    DST_CHECK_AS(DataCorruption, found != index.weight_map.end(), describe(tensor), " is not in ",
                 index_name, "; index and shards are of different checkpoints");
    DST_CHECK_AS(DataCorruption, found->second == name, describe(tensor), " lies in ", name,
                 ", but ", index_name, " places it in ", found->second);
  }
}

void warn_of_total_size(const SafetensorsIndex& index, uint64_t found, const std::string& path) {
  if (index.total_size && *index.total_size != found)
    log_warning(path, " claims a total_size of ", *index.total_size, " bytes, its tensors have ",
                found);
}

std::vector<std::unique_ptr<SafetensorsFile>> open_shards(Env& env, const std::string& folder,
                                                          std::string_view stem) {
  const auto index_name = index_file_name(stem);
  const auto index_path = join_path(folder, index_name);
  const auto index = parse_safetensors_index(read_text(env, index_path), index_path);
  std::set<std::string> names;
  for (const auto& [tensor, shard] : index.weight_map) names.insert(shard);
  check_files(env, folder, stem, names);

  std::vector<std::unique_ptr<SafetensorsFile>> shards;
  size_t num_tensors = 0;
  uint64_t num_bytes = 0;
  std::set<std::string_view> found;
  for (const auto& name : names) {
    shards.push_back(std::make_unique<SafetensorsFile>(env, join_path(folder, name)));
    check_shard(*shards.back(), index, index_name);
    for (const auto& tensor : shards.back()->tensors()) {
      found.insert(tensor.name);
      num_bytes += tensor.bytes.size();
    }
    num_tensors += shards.back()->tensors().size();
  }
  for (const auto& [tensor, shard] : index.weight_map)
    DST_CHECK_AS(DataCorruption, found.contains(tensor), join_path(folder, shard),
                 " has no tensor \"", tensor, "\", which ", index_name,
                 " places there; download or copy it again");
  warn_of_total_size(index, num_bytes, index_path);
  return shards;
}

}  // namespace

SafetensorsFolder::SafetensorsFolder(Env& env, const std::string& folder, std::string_view stem)
    : path_(folder) {
  const auto single = join_path(folder, single_file_name(stem));
  if (env.exists(join_path(folder, index_file_name(stem)))) {
    shards_ = open_shards(env, folder, stem);
  } else {
    DST_CHECK_AS(NotFound, env.exists(single), folder, " has neither ", single_file_name(stem),
                 " nor ", index_file_name(stem), "; wanted a folder of safetensors");
    shards_.push_back(std::make_unique<SafetensorsFile>(env, single));
  }
  for (const auto& shard : shards_)
    for (const auto& tensor : shard->tensors()) tensors_.push_back(&tensor);
  for (const TensorView* tensor : tensors_) index_.emplace(tensor->name, tensor);
}

const TensorView* SafetensorsFolder::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : found->second;
}

const TensorView& SafetensorsFolder::get(std::string_view name) const {
  if (const TensorView* tensor = find(name)) return *tensor;
  std::vector<std::string> names;
  for (const TensorView* tensor : tensors_) names.push_back(tensor->name);
  const auto nearest = nearest_word(name, names);
  throw NotFound(concat(path(), " has no tensor \"", name, "\"",
                        nearest.empty() ? "" : concat("; the nearest name is \"", nearest, "\"")));
}

}  // namespace deepseek_train::formats
