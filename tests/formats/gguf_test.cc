#include "deepseek_train/formats/gguf.h"

#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/temporary_folder.h"

namespace deepseek_train::formats {
namespace {

GgufFile open_bytes(const TemporaryFolder& folder, std::string_view bytes) {
  write_text(posix_env(), folder.file("model.gguf"), bytes);
  return GgufFile(posix_env(), folder.file("model.gguf"));
}

TEST(Gguf, ScalarsOfEveryTypeAreWidened) {
  TemporaryFolder folder;
  auto file = open_bytes(folder, GgufBuilder()
                                     .metadata("u8", kU8, raw<uint8_t>(200))
                                     .metadata("i8", kI8, raw<int8_t>(-5))
                                     .metadata("u16", kU16, raw<uint16_t>(60000))
                                     .metadata("i16", kI16, raw<int16_t>(-30000))
                                     .metadata("u32", kU32, raw<uint32_t>(4000000000u))
                                     .metadata("i32", kI32, raw<int32_t>(7))
                                     .metadata("u64", kU64, raw<uint64_t>(UINT64_MAX))
                                     .metadata("i64", kI64, raw<int64_t>(INT64_MIN))
                                     .metadata("f32", kF32Value, raw(0.5f))
                                     .metadata("f64", kF64Value, raw(0.1))
                                     .metadata("bool", kBool, raw<uint8_t>(1))
                                     .metadata("string", kString, raw_string("text"))
                                     .build());
  EXPECT_EQ(file.get_uint("u8"), 200u);
  EXPECT_EQ(std::get<int64_t>(*file.find_metadata("i8")), -5);
  EXPECT_EQ(file.get_uint("u16"), 60000u);
  EXPECT_EQ(file.get_float("i16"), -30000.0);
  EXPECT_EQ(file.get_uint("u32"), 4000000000u);
  EXPECT_EQ(file.get_uint("i32"), 7u);
  EXPECT_EQ(file.get_uint("u64"), UINT64_MAX);
  EXPECT_EQ(std::get<int64_t>(*file.find_metadata("i64")), INT64_MIN);
  EXPECT_EQ(file.get_float("f32"), 0.5);
  EXPECT_EQ(file.get_float("f64"), 0.1);
  EXPECT_TRUE(file.get_bool("bool"));
  EXPECT_EQ(file.get_string("string"), "text");
  EXPECT_EQ(file.metadata().size(), 12u);
  EXPECT_EQ(file.find_metadata("absent"), nullptr);
}

TEST(Gguf, ArraysOfEveryKind) {
  auto array = [](uint32_t type, uint64_t count, std::string_view values) {
    return raw(type) + raw(count) + std::string(values);
  };
  TemporaryFolder folder;
  auto file = open_bytes(
      folder, GgufBuilder()
                  .metadata("u8", kArray, array(kU8, 2, "\x01\xff"))
                  .metadata("i32", kArray, array(kI32, 2, raw<int32_t>(-1) + raw<int32_t>(9)))
                  .metadata("u64", kArray, array(kU64, 1, raw<uint64_t>(INT64_MAX)))
                  .metadata("f32", kArray, array(kF32Value, 1, raw(1.5f)))
                  .metadata("bool", kArray, array(kBool, 2, std::string("\x01\x00", 2)))
                  .metadata("strings", kArray,
                            array(kString, 3, raw_string("a") + raw_string("") + raw_string("世")))
                  .metadata("none", kArray, array(kString, 0, ""))
                  .build());
  EXPECT_EQ(file.get_ints("u8"), (std::vector<int64_t>{1, 255}));
  EXPECT_EQ(file.get_ints("i32"), (std::vector<int64_t>{-1, 9}));
  EXPECT_EQ(file.get_ints("u64"), (std::vector<int64_t>{INT64_MAX}));
  EXPECT_EQ(file.get_floats("f32"), (std::vector<double>{1.5}));
  EXPECT_EQ(std::get<std::vector<bool>>(*file.find_metadata("bool")),
            (std::vector<bool>{true, false}));
  EXPECT_EQ(file.get_strings("strings"), (std::vector<std::string>{"a", "", "世"}));
  EXPECT_TRUE(file.get_strings("none").empty());
}

TEST(Gguf, WrongTypesAndKeysAreNamed) {
  TemporaryFolder folder;
  auto file = open_bytes(folder, GgufBuilder()
                                     .metadata("llama.block_count", kString, raw_string("30"))
                                     .metadata("negative", kI32, raw<int32_t>(-1))
                                     .build());
  auto wrong_type = error_of<InvalidArgument>([&] { file.get_uint("llama.block_count"); });
  EXPECT_TRUE(contains(wrong_type, "llama.block_count") && contains(wrong_type, "a string"))
      << wrong_type;
  EXPECT_TRUE(contains(error_of<InvalidArgument>([&] { file.get_strings("negative"); }),
                       "a signed integer"));
  EXPECT_TRUE(contains(error_of<InvalidArgument>([&] { file.get_uint("negative"); }), "-1"));
  auto absent = error_of<NotFound>([&] { file.get_uint("llama.block_cuont"); });
  EXPECT_TRUE(contains(absent, "\"llama.block_count\"")) << absent;
}

TEST(Gguf, TensorsHavePyTorchShapesAndTheirBytes) {
  TemporaryFolder folder;
  std::string first =
      raw(1.0f) + raw(2.0f) + raw(3.0f) + raw(4.0f) + raw(5.0f) + raw(6.0f) + std::string(8, '\0');
  auto file = open_bytes(folder, GgufBuilder()
                                     .tensor("a", {3, 2}, 0, 0)
                                     .tensor("b", {1}, 0, 32)
                                     .data(first + raw(7.0f))
                                     .build());
  EXPECT_EQ(file.get("a").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.get("a").type, GgmlType::kF32);
  std::vector<float> values(6);
  file.dequantize("a", values);
  EXPECT_EQ(values, (std::vector<float>{1, 2, 3, 4, 5, 6}));
  file.dequantize("b", std::span(values).first(1));
  EXPECT_EQ(values[0], 7.0f);
  EXPECT_TRUE(contains(error_of<NotFound>([&] { file.get("c"); }), "model.gguf"));
}

TEST(Gguf, AlignmentAndVersion2AreHonoured) {
  TemporaryFolder folder;
  GgufBuilder builder;
  builder.version = 2;
  builder.alignment = 64;
  builder.metadata("general.alignment", kU32, raw<uint32_t>(64))
      .tensor("a", {1}, 0, 0)
      .tensor("b", {1}, 0, 64);
  auto file =
      open_bytes(folder, builder.data(raw(1.0f) + std::string(60, '\0') + raw(2.0f)).build());
  EXPECT_EQ(file.version(), 2u);
  EXPECT_EQ(file.alignment(), 64u);
  float value = 0;
  file.dequantize("b", {&value, 1});
  EXPECT_EQ(value, 2.0f);
}

TEST(Gguf, AFileOfVocabularyAloneIsValid) {
  TemporaryFolder folder;
  auto file = open_bytes(folder, GgufBuilder().metadata("a", kU8, raw<uint8_t>(1)).build());
  EXPECT_TRUE(file.tensors().empty());
}

}  // namespace
}  // namespace deepseek_train::formats
