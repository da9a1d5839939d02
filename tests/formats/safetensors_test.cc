#include "deepseek_train/formats/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "deepseek_train/core/error.h"
#include "tests/formats/temporary_folder.h"

namespace deepseek_train::formats {
namespace {

std::vector<std::byte> counting_bytes(size_t count, int first) {
  std::vector<std::byte> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(first + static_cast<int>(i));
  return bytes;
}

const std::vector<TensorInfo> kTensors = {{"weight", DType::kFloat32, {2, 3}},
                                          {"empty", DType::kBFloat16, {0, 4}},
                                          {"scalar", DType::kInt64, {}},
                                          {"flags", DType::kBool, {3}}};

void write_all(const std::string& path, const std::vector<TensorInfo>& tensors,
               const StringMap& metadata = {}) {
  SafetensorsWriter writer(posix_env(), path, tensors, metadata);
  for (size_t i = 0; i < tensors.size(); ++i)
    writer.write_next(counting_bytes(size_bytes(tensors[i]), static_cast<int>(10 * i)));
  writer.commit();
}

TEST(Safetensors, WhatIsWrittenIsReadBack) {
  TemporaryFolder folder;
  write_all(folder.file("a"), kTensors, {{"format", "pt"}, {"note", "\"quoted\"\n世界"}});
  SafetensorsFile file(posix_env(), folder.file("a"));
  ASSERT_EQ(file.tensors().size(), kTensors.size());
  for (size_t i = 0; i < kTensors.size(); ++i) {
    const auto& tensor = file.tensors()[i];
    EXPECT_EQ(tensor.name, kTensors[i].name);
    EXPECT_EQ(tensor.dtype, kTensors[i].dtype);
    EXPECT_EQ(tensor.shape, kTensors[i].shape);
    auto wanted = counting_bytes(size_bytes(kTensors[i]), static_cast<int>(10 * i));
    EXPECT_TRUE(std::equal(tensor.bytes.begin(), tensor.bytes.end(), wanted.begin(), wanted.end()))
        << tensor.name;
  }
  EXPECT_EQ(file.metadata(), (StringMap{{"format", "pt"}, {"note", "\"quoted\"\n世界"}}));
}

TEST(Safetensors, EveryDTypeKeepsItsName) {
  std::vector<TensorInfo> tensors;
  for (int i = 0; i <= static_cast<int>(DType::kFloat8E8M0); ++i)
    tensors.push_back({concat("t", i), static_cast<DType>(i), {5}});
  TemporaryFolder folder;
  write_all(folder.file("all"), tensors);
  SafetensorsFile file(posix_env(), folder.file("all"));
  for (const auto& tensor : tensors) EXPECT_EQ(file.get(tensor.name).dtype, tensor.dtype);
}

TEST(Safetensors, TheHeaderIsLaidOutAsHuggingFaceDoes) {
  TemporaryFolder folder;
  write_all(folder.file("b"), {{"a", DType::kUInt8, {1}}}, {{"format", "pt"}});
  std::string json =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  json.append((8 - json.size() % 8) % 8, ' ');
  std::string wanted(8, '\0');
  wanted[0] = static_cast<char>(json.size());
  EXPECT_EQ(read_text(posix_env(), folder.file("b")), wanted + json + std::string(1, '\0'));
}

TEST(Safetensors, AFileWithoutTensorsIsValid) {
  TemporaryFolder folder;
  write_all(folder.file("none"), {});
  SafetensorsFile file(posix_env(), folder.file("none"));
  EXPECT_TRUE(file.tensors().empty());
  EXPECT_EQ(file.find("x"), nullptr);
}

TEST(Safetensors, FindAndGet) {
  TemporaryFolder folder;
  write_all(folder.file("c"), kTensors);
  SafetensorsFile opened(posix_env(), folder.file("c"));
  SafetensorsFile file = std::move(opened);
  EXPECT_EQ(file.find("absent"), nullptr);
  EXPECT_EQ(file.find("scalar"), &file.tensors()[2]);
  auto text = error_of<NotFound>([&] { file.get("wieght"); });
  EXPECT_TRUE(contains(text, folder.file("c")) && contains(text, "\"weight\"")) << text;
}

TEST(SafetensorsWriter, WithoutCommitNothingRemains) {
  TemporaryFolder folder;
  {
    SafetensorsWriter writer(posix_env(), folder.file("d"), kTensors);
    writer.write_next(counting_bytes(24, 0));
  }
  EXPECT_TRUE(posix_env().list(folder.path()).empty());
}

TEST(SafetensorsWriter, MistakesAreRefusedByName) {
  TemporaryFolder folder;
  SafetensorsWriter writer(posix_env(), folder.file("e"), {{"weight", DType::kFloat32, {2, 3}}});
  auto wrong_size = error_of<InvalidArgument>([&] { writer.write_next(counting_bytes(23, 0)); });
  EXPECT_TRUE(contains(wrong_size, "weight") && contains(wrong_size, "24") &&
              contains(wrong_size, "23"))
      << wrong_size;
  auto incomplete = error_of<InvalidArgument>([&] { writer.commit(); });
  EXPECT_TRUE(contains(incomplete, "0 of 1") && contains(incomplete, "weight")) << incomplete;
  writer.write_next(counting_bytes(24, 0));
  EXPECT_THROW(writer.write_next({}), InvalidArgument);
  writer.commit();
  EXPECT_THROW(writer.commit(), InvalidArgument);
}

TEST(SafetensorsWriter, ImpossibleHeadersAreRefusedBeforeTheDiskIsTouched) {
  TemporaryFolder folder;
  auto write = [&](std::vector<TensorInfo> tensors, StringMap metadata = {}) {
    return error_of<InvalidArgument>(
        [&] { SafetensorsWriter(posix_env(), folder.file("f"), tensors, metadata); });
  };
  EXPECT_TRUE(contains(write({{"a", DType::kInt8, {1}}, {"a", DType::kInt8, {1}}}), "twice"));
  EXPECT_TRUE(contains(write({{"a", DType::kInt8, {-1}}}), "[-1]"));
  EXPECT_TRUE(
      contains(write({{"a", DType::kFloat32, {int64_t{1} << 40, int64_t{1} << 40}}}), "63 bits"));
  EXPECT_TRUE(
      contains(write({{"a", DType::kInt8, {INT64_MAX}}, {"b", DType::kInt8, {1}}}), "together"));
  EXPECT_TRUE(contains(write({{"__metadata__", DType::kInt8, {1}}}), "cannot be named"));
  EXPECT_TRUE(contains(write({{"\xff", DType::kInt8, {1}}}), "UTF-8"));
  EXPECT_TRUE(contains(write({}, {{"key", "\xff"}}), "UTF-8"));
  EXPECT_TRUE(posix_env().list(folder.path()).empty());
}

}  // namespace
}  // namespace deepseek_train::formats
