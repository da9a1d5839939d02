#include "deepseek_train/formats/inventory.h"

#include <algorithm>

#include "deepseek_train/core/parallel.h"
#include "deepseek_train/core/sha256.h"
#include "deepseek_train/formats/gguf.h"
#include "deepseek_train/formats/safetensors_folder.h"

namespace deepseek_train::formats {
namespace {

std::string file_name_of(const std::string& path) {
  return path.substr(path.find_last_of('/') + 1);
}

// The files' paths and everything but their hashes.
struct Listing {
  std::vector<std::string> paths;
  Inventory inventory;

  void add_shard(const std::string& path) {
    paths.push_back(path);
    inventory.shards.push_back({file_name_of(path), 0, ""});
  }
};

void list_safetensors(const SafetensorsFile& file, Listing& listing) {
  listing.add_shard(file.path());
  for (const auto& tensor : file.tensors())
    listing.inventory.tensors.push_back(
        {tensor.name, std::string(safetensors_name_of(tensor.dtype)), tensor.shape,
         tensor.bytes.size(), listing.paths.size() - 1});
}

void list_gguf(const GgufFile& file, Listing& listing) {
  listing.add_shard(file.path());
  for (const auto& tensor : file.tensors())
    listing.inventory.tensors.push_back({tensor.name, std::string(name_of(tensor.type)),
                                         tensor.shape, tensor.bytes.size(),
                                         listing.paths.size() - 1});
}

Listing list(Env& env, const std::string& path) {
  Listing listing;
  if (path.ends_with(".gguf")) {
    list_gguf(GgufFile(env, path), listing);
  } else if (path.ends_with(".safetensors")) {
    list_safetensors(SafetensorsFile(env, path), listing);
  } else {
    const SafetensorsFolder folder(env, path);
    for (const auto& shard : folder.shards()) list_safetensors(*shard, listing);
  }
  return listing;
}

// Piece by piece, so that a file larger than the memory is no burden.
void hash_file(Env& env, const std::string& path, InventoryShard& shard) {
  constexpr size_t kPieceBytes = 16 << 20;
  const auto file = env.open(path);
  Sha256 hash;
  for (auto rest = file->bytes(); !rest.empty();) {
    const auto piece = rest.first(std::min(rest.size(), kPieceBytes));
    file->populate(piece);
    hash.update(piece);
    file->release(piece);
    rest = rest.subspan(piece.size());
  }
  shard.bytes = file->bytes().size();
  shard.sha256 = hash.finish_hex();
}

}  // namespace

Inventory take_inventory(Env& env, const std::string& path, int num_threads) {
  auto [paths, inventory] = list(env, path);
  auto& shards = inventory.shards;
  parallel_for(static_cast<int64_t>(shards.size()), num_threads, [&, &paths = paths](int64_t i) {
    hash_file(env, paths[static_cast<size_t>(i)], shards[static_cast<size_t>(i)]);
  });
  return inventory;
}

}  // namespace deepseek_train::formats
