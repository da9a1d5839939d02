// A checkpoint of one or many safetensors files, as Hugging Face lays it out:
// model.safetensors, or model-00001-of-0000N.safetensors with model.safetensors.index.json.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "deepseek_train/core/env.h"
#include "deepseek_train/formats/safetensors.h"

namespace deepseek_train::formats {

// All files of one checkpoint, mapped for reading: opening reads headers alone. Const methods are
// thread-safe.
class SafetensorsFolder {
 public:
  // Checks each file as SafetensorsFile does, and that index and shards agree: every tensor of the
  // index lies in the shard that it names, no shard holds another one, no shard of that name is
  // left over. Throws NotFound naming the missing file, DataCorruption naming the file and the
  // tensor with its range of bytes. Files of other names in the folder do not matter.
  SafetensorsFolder(Env& env, const std::string& folder, std::string_view stem = "model");

  const std::string& path() const { return path_; }
  // Sorted by name.
  const std::vector<std::unique_ptr<SafetensorsFile>>& shards() const { return shards_; }
  // Of all shards, in the shards' order and in the order in which they lie there.
  const std::vector<const TensorView*>& tensors() const { return tensors_; }
  // nullptr if there is no such tensor.
  const TensorView* find(std::string_view name) const;
  // Throws NotFound naming the folder and the nearest name.
  const TensorView& get(std::string_view name) const;

 private:
  std::string path_;
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::vector<const TensorView*> tensors_;
  std::unordered_map<std::string_view, const TensorView*> index_;
};

// Which tensor goes into which file: known before the first value is, so a model of any size can be
// written tensor by tensor, by one process or by many (each writes its own shards, one the index).
struct ShardPlan {
  struct Shard {
    std::string file_name;
    std::vector<TensorInfo> tensors;  // as they will lie in the file
  };
  std::string index_name;  // empty for a single file, which has no index
  std::vector<Shard> shards;
};

// Hugging Face's default for new checkpoints.
inline constexpr uint64_t kDefaultMaxShardBytes = 5'000'000'000;

// Splits as huggingface_hub does: in the order given, a shard is closed before it would pass
// `max_shard_bytes`; a tensor larger than that gets a shard of its own. Inside a file tensors are
// ordered as the safetensors package does: widest type first, then by name. Throws InvalidArgument
// for a name given twice or a size that overflows.
ShardPlan plan_shards(const std::vector<TensorInfo>& tensors,
                      uint64_t max_shard_bytes = kDefaultMaxShardBytes,
                      std::string_view stem = "model");

// The values of one tensor, valid until the next call. Called once for each tensor, in the plan's
// order.
using TensorSource = std::function<std::span<const std::byte>(const TensorInfo&)>;

// Writes one file of the plan under a temporary name, syncs it and renames it into place. Keeps
// nothing in memory but what `source` gives: the host's peak is one tensor.
void write_shard(Env& env, const std::string& folder, const ShardPlan::Shard& shard,
                 const TensorSource& source, const StringMap& metadata);
// Writes the index when all shards are there; does nothing for a single file. A checkpoint without
// its index cannot be opened, so a reader never sees half of one.
void write_index(Env& env, const std::string& folder, const ShardPlan& plan);

// All shards, then the index. Throws InvalidArgument if the folder holds a checkpoint of that name
// already; after an error the shards written are removed.
void write_sharded(Env& env, const std::string& folder, const ShardPlan& plan,
                   const TensorSource& source, const StringMap& metadata = {{"format", "pt"}});

}  // namespace deepseek_train::formats
