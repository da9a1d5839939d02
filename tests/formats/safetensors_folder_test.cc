#include "deepseek_train/formats/safetensors_folder.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "tests/formats/temporary_folder.h"

namespace deepseek_train::formats {
namespace {

const std::vector<TensorInfo> kTensors = {{"embed", DType::kBFloat16, {10, 4}},     // 80 bytes
                                          {"layer.0.w", DType::kBFloat16, {4, 4}},  // 32
                                          {"layer.0.b", DType::kFloat32, {4}},      // 16
                                          {"layer.1.w", DType::kBFloat16, {4, 4}},
                                          {"layer.1.b", DType::kFloat32, {4}},
                                          {"norm", DType::kFloat32, {4}}};

// Bytes that tell one tensor from another.
std::vector<std::byte> bytes_of(const TensorInfo& tensor) {
  return std::vector<std::byte>(
      size_bytes(tensor),
      static_cast<std::byte>(tensor.name.size() * 16 + tensor.name[6 % tensor.name.size()]));
}

// Gives bytes_of(tensor).
class Source {
 public:
  std::span<const std::byte> operator()(const TensorInfo& tensor) {
    bytes_ = bytes_of(tensor);
    return bytes_;
  }

 private:
  std::vector<std::byte> bytes_;
};

void write(const std::string& folder, uint64_t max_shard_bytes) {
  write_sharded(posix_env(), folder, plan_shards(kTensors, max_shard_bytes), Source());
}

std::vector<std::string> names_of(const ShardPlan::Shard& shard) {
  std::vector<std::string> names;
  for (const auto& tensor : shard.tensors) names.push_back(tensor.name);
  return names;
}

TEST(ShardPlan, SplitsInOrderAndSortsInsideAFile) {
  const auto plan = plan_shards(kTensors, 64);
  ASSERT_EQ(plan.shards.size(), 3u);
  EXPECT_EQ(plan.index_name, "model.safetensors.index.json");
  EXPECT_EQ(plan.shards[0].file_name, "model-00001-of-00003.safetensors");
  EXPECT_EQ(plan.shards[2].file_name, "model-00003-of-00003.safetensors");
  EXPECT_EQ(names_of(plan.shards[0]), (std::vector<std::string>{"embed"}));  // larger than a shard
  EXPECT_EQ(names_of(plan.shards[1]), (std::vector<std::string>{"layer.0.b", "layer.0.w"}));
  EXPECT_EQ(names_of(plan.shards[2]), (std::vector<std::string>{"layer.1.b", "norm", "layer.1.w"}));
}

TEST(ShardPlan, OneFileHasNoIndex) {
  for (const auto& tensors : {kTensors, std::vector<TensorInfo>{}}) {
    const auto plan = plan_shards(tensors);
    ASSERT_EQ(plan.shards.size(), 1u);
    EXPECT_EQ(plan.shards[0].file_name, "model.safetensors");
    EXPECT_EQ(plan.index_name, "");
    EXPECT_EQ(plan.shards[0].tensors.size(), tensors.size());
  }
}

TEST(ShardPlan, MistakesAreRefused) {
  EXPECT_THROW(plan_shards({kTensors[0], kTensors[0]}, 10), InvalidArgument);
  EXPECT_THROW(plan_shards(kTensors, 0), InvalidArgument);
  EXPECT_THROW(plan_shards({{"a", DType::kInt8, {-1}}}, 10), InvalidArgument);
}

TEST(SafetensorsFolder, WhatIsWrittenIsReadBack) {
  for (const uint64_t max_shard_bytes : {1, 64, 120, 100'000}) {
    TemporaryFolder folder;
    write(folder.path(), max_shard_bytes);
    const SafetensorsFolder opened(posix_env(), folder.path());
    EXPECT_EQ(opened.tensors().size(), kTensors.size());
    for (const auto& tensor : kTensors) {
      const auto& found = opened.get(tensor.name);
      EXPECT_EQ(found.shape, tensor.shape);
      EXPECT_EQ(found.dtype, tensor.dtype);
      EXPECT_TRUE(std::ranges::equal(found.bytes, bytes_of(tensor))) << tensor.name;
    }
    for (const auto& shard : opened.shards())
      EXPECT_EQ(shard->metadata(), (StringMap{{"format", "pt"}}));
    EXPECT_EQ(opened.find("absent"), nullptr);
    EXPECT_TRUE(contains(error_of<NotFound>([&] { opened.get("layer.2.w"); }), "layer.0.w"));
  }
}

TEST(SafetensorsFolder, ShardsWrittenByManyGiveTheSameFolder) {
  TemporaryFolder folder;
  write(folder.file("one"), 64);
  const auto plan = plan_shards(kTensors, 64);
  for (size_t i = plan.shards.size(); i-- > 0;)
    write_shard(posix_env(), folder.file("many"), plan.shards[i], Source(), {{"format", "pt"}});
  EXPECT_THROW(SafetensorsFolder(posix_env(), folder.file("many")), NotFound);
  write_index(posix_env(), folder.file("many"), plan);
  const auto files = posix_env().list(folder.file("one"));
  EXPECT_EQ(files.size(), 4u);
  EXPECT_EQ(posix_env().list(folder.file("many")), files);
  for (const auto& name : files)
    EXPECT_EQ(read_text(posix_env(), join_path(folder.file("many"), name)),
              read_text(posix_env(), join_path(folder.file("one"), name)));
}

TEST(WriteSharded, AFailureLeavesNothing) {
  TemporaryFolder folder;
  Source source;
  const auto failing = [&](const TensorInfo& tensor) {
    if (tensor.name == "layer.1.w") throw Unavailable("the rank is gone");
    return source(tensor);
  };
  EXPECT_THROW(write_sharded(posix_env(), folder.path(), plan_shards(kTensors, 64), failing),
               Unavailable);
  EXPECT_TRUE(posix_env().list(folder.path()).empty());
}

TEST(WriteSharded, AnotherCheckpointIsNotOverwritten) {
  for (const uint64_t max_shard_bytes : {64, 100'000}) {
    TemporaryFolder folder;
    write(folder.path(), max_shard_bytes);
    EXPECT_TRUE(contains(error_of<InvalidArgument>([&] { write(folder.path(), max_shard_bytes); }),
                         "already holds"));
    SafetensorsFolder(posix_env(), folder.path());
  }
}

// A folder of three shards whose index or files are then made wrong.
class DisagreeingFolder : public testing::Test {
 protected:
  DisagreeingFolder() { write(folder_.path(), 64); }

  void replace_in_index(const std::string& what, const std::string& by) {
    auto text = read_text(posix_env(), index_);
    const auto at = text.find(what);
    ASSERT_NE(at, text.npos) << what;
    write_text(posix_env(), index_, text.replace(at, what.size(), by));
  }
  template <typename ErrorType>
  std::string error() {
    auto text = error_of<ErrorType>([&] { SafetensorsFolder(posix_env(), folder_.path()); });
    EXPECT_TRUE(contains(text, folder_.path())) << text;
    return text;
  }

  TemporaryFolder folder_;
  std::string index_ = folder_.file("model.safetensors.index.json");
};

TEST_F(DisagreeingFolder, AMissingShardIsNamed) {
  posix_env().remove_all(folder_.file("model-00002-of-00003.safetensors"));
  EXPECT_TRUE(contains(error<NotFound>(), "has no model-00002-of-00003.safetensors"));
}

TEST_F(DisagreeingFolder, AMissingIndexIsNamed) {
  posix_env().remove_all(index_);
  EXPECT_TRUE(contains(error<NotFound>(), "model.safetensors.index.json"));
}

TEST_F(DisagreeingFolder, AShardThatTheIndexDoesNotNameIsNamed) {
  write_text(posix_env(), folder_.file("model-00001-of-00009.safetensors"), "");
  EXPECT_TRUE(contains(error<DataCorruption>(), "holds model-00001-of-00009.safetensors"));
}

TEST_F(DisagreeingFolder, FilesOfOtherNamesDoNotMatter) {
  write_text(posix_env(), folder_.file("consolidated.safetensors"), "");
  write_text(posix_env(), folder_.file("model-00001.safetensors"), "");
  SafetensorsFolder(posix_env(), folder_.path());
}

TEST_F(DisagreeingFolder, TwoCheckpointsAreRefused) {
  write_text(posix_env(), folder_.file("model.safetensors"), "");
  EXPECT_TRUE(contains(error<DataCorruption>(), "two checkpoints"));
}

TEST_F(DisagreeingFolder, ATensorThatNoShardHoldsIsNamed) {
  replace_in_index("\"weight_map\": {",
                   "\"weight_map\": {\"extra\": \"model-00002-of-00003.safetensors\",");
  const auto text = error<DataCorruption>();
  EXPECT_TRUE(contains(text, "model-00002-of-00003.safetensors has no tensor \"extra\"")) << text;
}

TEST_F(DisagreeingFolder, ATensorThatTheIndexLacksIsNamedWithItsBytes) {
  replace_in_index("\"norm\"", "\"other\"");
  const auto text = error<DataCorruption>();
  EXPECT_TRUE(contains(text, "tensor \"norm\" (bytes ") && contains(text, "is not in")) << text;
}

TEST_F(DisagreeingFolder, ATensorInTheWrongShardIsNamedWithBoth) {
  replace_in_index("\"norm\": \"model-00003", "\"norm\": \"model-00002");
  const auto text = error<DataCorruption>();
  EXPECT_TRUE(contains(text, "tensor \"norm\" (bytes ") &&
              contains(text, "lies in model-00003-of-00003.safetensors") &&
              contains(text, "places it in model-00002-of-00003.safetensors"))
      << text;
}

TEST_F(DisagreeingFolder, ATensorInTwoShardsIsNamed) {
  const ShardPlan::Shard twice{"model-00001-of-00003.safetensors", {kTensors[0], kTensors[5]}};
  write_shard(posix_env(), folder_.path(), twice, Source(), {});
  const auto text = error<DataCorruption>();
  EXPECT_TRUE(contains(text, "tensor \"norm\" (bytes ") && contains(text, "places it in")) << text;
}

TEST_F(DisagreeingFolder, BadIndicesAreRefused) {
  const auto error_with = [&](const std::string& json) {
    write_text(posix_env(), index_, json);
    return error<DataCorruption>();
  };
  EXPECT_TRUE(contains(error_with(""), "not valid JSON"));
  EXPECT_TRUE(contains(error_with("[]"), "no object \"weight_map\""));
  EXPECT_TRUE(contains(error_with("{\"weight_map\": 3}"), "no object \"weight_map\""));
  EXPECT_TRUE(
      contains(error_with("{\"weight_map\": {\"a\": 3}}"), "tensor \"a\" is placed in number"));
  EXPECT_TRUE(contains(error_with("{\"weight_map\": {\"a\": \"../x.safetensors\"}}"),
                       "in the folder itself"));
  EXPECT_TRUE(
      contains(error_with("{\"weight_map\": {\"a\": \"x.bin\"}}"), "wanted a .safetensors file"));
  EXPECT_TRUE(
      contains(error_with("{\"weight_map\": {\"a\": \"x.safetensors\", \"a\": \"y.safetensors\"}}"),
               "\"a\" twice"));
  EXPECT_TRUE(
      contains(error_with("{\"weight_map\": " + std::string(100'000, '[')), "nests deeper"));
}

TEST_F(DisagreeingFolder, AWrongTotalSizeIsOnlyWarnedOf) {
  replace_in_index("\"total_size\": 192", "\"total_size\": 193");
  SafetensorsFolder(posix_env(), folder_.path());
}

}  // namespace
}  // namespace deepseek_train::formats
