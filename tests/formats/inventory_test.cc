#include "deepseek_train/formats/inventory.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/sha256.h"
#include "deepseek_train/formats/safetensors_folder.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/temporary_folder.h"

namespace deepseek_train::formats {
namespace {

void expect_hashes(const std::string& folder, const Inventory& inventory) {
  for (const auto& shard : inventory.shards) {
    const auto text = read_text(posix_env(), join_path(folder, shard.file_name));
    EXPECT_EQ(shard.bytes, text.size());
    EXPECT_EQ(shard.sha256, sha256_hex(text));
  }
}

TEST(Inventory, OfAFolderOfShards) {
  TemporaryFolder folder;
  const std::vector<TensorInfo> tensors = {{"a", DType::kBFloat16, {3, 5}},
                                           {"b", DType::kFloat8E4M3, {7}},
                                           // Longer than what is hashed at a time.
                                           {"c", DType::kUInt8, {20'000'000}}};
  std::vector<std::byte> values(20'000'000, std::byte{5});
  write_sharded(posix_env(), folder.path(), plan_shards(tensors, 37),
                [&](const TensorInfo& tensor) {
                  return std::span<const std::byte>(values).first(size_bytes(tensor));
                });
  for (const int num_threads : {1, 2, 5}) {
    const auto inventory = take_inventory(posix_env(), folder.path(), num_threads);
    ASSERT_EQ(inventory.shards.size(), 2u);
    EXPECT_EQ(inventory.shards[0].file_name, "model-00001-of-00002.safetensors");
    expect_hashes(folder.path(), inventory);
    ASSERT_EQ(inventory.tensors.size(), 3u);
    const auto& a = inventory.tensors[1];
    EXPECT_EQ(a.name + " " + a.dtype + " " + concat(a.shape, " ", a.bytes, " ", a.shard),
              "a BF16 [3, 5] 30 1");
    const auto& b = inventory.tensors[2];
    EXPECT_EQ(b.name + " " + b.dtype + " " + concat(b.shape, " ", b.bytes, " ", b.shard),
              "b F8_E4M3 [7] 7 1");
  }
}

TEST(Inventory, OfOneFile) {
  TemporaryFolder folder;
  const auto gguf = GgufBuilder().tensor("q", {32, 2}, 3, 0).data(std::string(40, 'x')).build();
  write_text(posix_env(), folder.file("m.gguf"), gguf);
  const auto inventory = take_inventory(posix_env(), folder.file("m.gguf"), 2);
  expect_hashes(folder.path(), inventory);
  ASSERT_EQ(inventory.tensors.size(), 1u);
  EXPECT_EQ(inventory.tensors[0].dtype, "Q4_1");
  EXPECT_EQ(inventory.tensors[0].shape, (std::vector<int64_t>{2, 32}));
  EXPECT_EQ(inventory.tensors[0].bytes, 40u);

  SafetensorsWriter writer(posix_env(), folder.file("s.safetensors"), {});
  writer.commit();
  const auto empty = take_inventory(posix_env(), folder.file("s.safetensors"), 2);
  expect_hashes(folder.path(), empty);
  EXPECT_EQ(empty.shards.size(), 1u);
  EXPECT_TRUE(empty.tensors.empty());
}

TEST(Inventory, WhatIsNoCheckpointIsRefused) {
  TemporaryFolder folder;
  EXPECT_THROW(take_inventory(posix_env(), folder.path(), 1), NotFound);
  write_text(posix_env(), folder.file("bad.gguf"), "no");
  EXPECT_THROW(take_inventory(posix_env(), folder.file("bad.gguf"), 1), DataCorruption);
}

}  // namespace
}  // namespace deepseek_train::formats
