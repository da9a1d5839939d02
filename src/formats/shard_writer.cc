#include <algorithm>
#include <unordered_set>
#include <utility>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/safetensors_folder.h"
#include "src/formats/safetensors_index.h"
#include "src/formats/shard_names.h"

namespace deepseek_train::formats {
namespace {

// The safetensors package's order of types; files list the last ones first, which aligns each
// value.
constexpr DType kTypeOrder[] = {DType::kBool,       DType::kUInt8,      DType::kInt8,
                                DType::kFloat8E5M2, DType::kFloat8E4M3, DType::kFloat8E8M0,
                                DType::kFloat16,    DType::kBFloat16,   DType::kInt32,
                                DType::kFloat32,    DType::kFloat64,    DType::kInt64};

auto place_in_order(DType dtype) {
  return std::find(std::begin(kTypeOrder), std::end(kTypeOrder), dtype) - std::begin(kTypeOrder);
}

bool lies_before(const TensorInfo& a, const TensorInfo& b) {
  const auto place_of_a = place_in_order(a.dtype), place_of_b = place_in_order(b.dtype);
  return place_of_a != place_of_b ? place_of_a > place_of_b : a.name < b.name;
}

std::vector<std::vector<TensorInfo>> split(const std::vector<TensorInfo>& tensors,
                                           uint64_t max_shard_bytes) {
  std::vector<std::vector<TensorInfo>> shards;
  std::vector<TensorInfo> open_shard;
  uint64_t open_bytes = 0;
  for (const auto& tensor : tensors) {
    const uint64_t bytes = size_bytes(tensor);
    if (bytes > max_shard_bytes) {
      shards.push_back({tensor});
      continue;
    }
    if (open_bytes + bytes > max_shard_bytes) {
      shards.push_back(std::exchange(open_shard, {}));
      open_bytes = 0;
    }
    open_shard.push_back(tensor);
    open_bytes += bytes;
  }
  if (!open_shard.empty() || shards.empty()) shards.push_back(std::move(open_shard));
  return shards;
}

void check_free(Env& env, const std::string& folder, const ShardPlan& plan) {
  std::vector<std::string> names = {plan.index_name};
  for (const auto& shard : plan.shards) names.push_back(shard.file_name);
  for (const auto& name : names)
    DST_CHECK(name.empty() || !env.exists(join_path(folder, name)), folder, " already holds ", name,
              "; remove that checkpoint or choose another folder");
}

}  // namespace

ShardPlan plan_shards(const std::vector<TensorInfo>& tensors, uint64_t max_shard_bytes,
                      std::string_view stem) {
  DST_CHECK(max_shard_bytes > 0, "max_shard_bytes must be at least 1");
  std::unordered_set<std::string_view> names;
  for (const auto& tensor : tensors)
    DST_CHECK(names.insert(tensor.name).second, "tensor \"", tensor.name,
              "\" is given twice; names must differ");
  auto shards = split(tensors, max_shard_bytes);
  ShardPlan plan;
  if (shards.size() > 1) plan.index_name = index_file_name(stem);
  for (size_t i = 0; i < shards.size(); ++i) {
    std::sort(shards[i].begin(), shards[i].end(), lies_before);
    plan.shards.push_back(
        {shards.size() == 1 ? single_file_name(stem) : shard_file_name(stem, i, shards.size()),
         std::move(shards[i])});
  }
  return plan;
}

void write_shard(Env& env, const std::string& folder, const ShardPlan::Shard& shard,
                 const TensorSource& source, const StringMap& metadata) {
  SafetensorsWriter writer(env, join_path(folder, shard.file_name), shard.tensors, metadata);
  for (const auto& tensor : shard.tensors) writer.write_next(source(tensor));
  writer.commit();
}

void write_index(Env& env, const std::string& folder, const ShardPlan& plan) {
  if (!plan.index_name.empty())
    write_text(env, join_path(folder, plan.index_name), format_safetensors_index(plan));
}

void write_sharded(Env& env, const std::string& folder, const ShardPlan& plan,
                   const TensorSource& source, const StringMap& metadata) {
  check_free(env, folder, plan);
  size_t num_written = 0;
  try {
    for (const auto& shard : plan.shards) {
      write_shard(env, folder, shard, source, metadata);
      ++num_written;
    }
    write_index(env, folder, plan);
  } catch (...) {
    for (size_t i = 0; i < num_written; ++i)
      env.remove_all(join_path(folder, plan.shards[i].file_name));
    throw;
  }
}

}  // namespace deepseek_train::formats
