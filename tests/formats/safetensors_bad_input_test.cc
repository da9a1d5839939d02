// Every way in which a safetensors file can lie about itself.
#include <gtest/gtest.h>

#include <cstring>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/safetensors.h"
#include "tests/formats/memory_env.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/damage.h"
#include "tests/support/trials.h"

namespace deepseek_train::formats {
namespace {

std::string with_length(uint64_t length, std::string_view rest) {
  std::string text(8, '\0');
  std::memcpy(text.data(), &length, 8);
  return text.append(rest);
}

// The error on opening a file of these bytes.
std::string error_of_bytes(std::string_view bytes) {
  MemoryEnv env(bytes);
  auto text = error_of<DataCorruption>([&] { SafetensorsFile(env, "bad.safetensors"); });
  EXPECT_TRUE(contains(text, "bad.safetensors")) << text;
  EXPECT_TRUE(contains(text, "bytes ")) << text;
  EXPECT_LT(text.size(), 1000u);
  return text;
}

std::string error_of_header(std::string_view json, size_t num_data_bytes) {
  return error_of_bytes(
      with_length(json.size(), std::string(json) + std::string(num_data_bytes, 'x')));
}

struct BadHeader {
  const char* what;
  const char* json;
  size_t num_data_bytes;
  const char* wanted_in_error;
};

class SafetensorsBadHeader : public testing::TestWithParam<BadHeader> {};

TEST_P(SafetensorsBadHeader, IsRefused) {
  auto text = error_of_header(GetParam().json, GetParam().num_data_bytes);
  EXPECT_TRUE(contains(text, GetParam().wanted_in_error)) << text;
}

INSTANTIATE_TEST_SUITE_P(
    All, SafetensorsBadHeader,
    testing::Values(
        BadHeader{"Array", "[]", 0, "begin with '{'"},
        BadHeader{"LeadingSpace", " {}", 0, "begin with '{'"},
        BadHeader{"NotJson", "{\"a\":", 0, "not valid JSON"},
        BadHeader{"BadUtf8", "{\"\xff\":1}", 0, "not valid JSON"},
        BadHeader{"TrailingText", "{} x", 0, "not valid JSON"},
        BadHeader{
            "TensorTwice",
            R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
            1, "\"a\" twice"},
        BadHeader{"FieldTwice",
                  R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1,
                  "\"dtype\" twice"},
        BadHeader{"TensorNotObject", R"({"a":3})", 0, "wanted an object"},
        BadHeader{"MetadataNotObject", R"({"__metadata__":[]})", 0, "wanted an object"},
        BadHeader{"MetadataNotString", R"({"__metadata__":{"k":1}})", 0, "wanted a string"},
        BadHeader{"NoShape", R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1, "no \"shape\""},
        BadHeader{"NoOffsets", R"({"a":{"dtype":"U8","shape":[1]}})", 1, "no \"data_offsets\""},
        BadHeader{"DtypeNumber", R"({"a":{"dtype":1,"shape":[1],"data_offsets":[0,1]}})", 1,
                  "wanted a string"},
        BadHeader{"UnknownDtype", R"({"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}})", 1,
                  "F4"},
        BadHeader{"NegativeDimension", R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})",
                  1, "-1"},
        BadHeader{"FractionalDimension",
                  R"({"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}})", 1, "1.5"},
        BadHeader{"HugeDimension",
                  R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]}})", 1,
                  "2^63"},
        BadHeader{"OverflowingShape",
                  R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
                  "overflows"},
        BadHeader{"ShapeIsText", R"({"a":{"dtype":"U8","shape":"1","data_offsets":[0,1]}})", 1,
                  "wanted an array"},
        BadHeader{"OneOffset", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1,
                  "[begin, end]"},
        BadHeader{"OffsetsReversed", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1,
                  "[begin, end]"},
        BadHeader{"SizeDiffers", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,7]}})", 7,
                  "takes 8 bytes"},
        BadHeader{
            "Hole",
            R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
            3, "hole"},
        BadHeader{"HoleAtTheStart", R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2,
                  "hole"},
        BadHeader{
            "Overlap",
            R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
            3, "overlap"},
        BadHeader{"BytesAfterTheLastTensor",
                  R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 2,
                  "follow the last tensor"},
        BadHeader{"OverlapNamesTheBytesInTheFile",
                  R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", 3,
                  "tensor \"a\" (bytes 62 to 64)"},
        BadHeader{"DataCut", R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", 2,
                  "it is cut"}),
    [](const auto& info) { return std::string(info.param.what); });

TEST(SafetensorsBadInput, ACutAtEveryByteIsRefused) {
  std::string json = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
  std::string whole = with_length(json.size(), json + "abcd");
  test_support::for_every_cut(whole, error_of_bytes);
}

TEST(SafetensorsBadInput, AbsurdHeaderLengthsAreRefused) {
  EXPECT_TRUE(contains(error_of_bytes(with_length(UINT64_MAX, "{}")), "18446744073709551615"));
  EXPECT_TRUE(contains(error_of_bytes(with_length(100'000'001, "{}")), "100000001"));
  EXPECT_TRUE(contains(error_of_bytes(with_length(3, "{}")), "it is cut"));
}

TEST(SafetensorsBadInput, DeepNestingIsRefused) {
  EXPECT_TRUE(contains(error_of_header("{\"a\":" + std::string(100000, '['), 0), "nests deeper"));
}

// Whatever bytes are altered, opening ends in tensors inside the file or in one of our errors.
TEST(SafetensorsBadInput, RandomDamageIsReadOrRefused) {
  std::string json =
      R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[2,1],"data_offsets":[4,6]}})";
  const std::string whole = with_length(json.size(), json + "abcdef");
  const int trials = test_support::num_trials(3000, 1'000'000);
  const int refused =
      test_support::refused_of_damaged(whole, /*seed=*/12, trials, [](const std::string& damaged) {
        MemoryEnv env(damaged);
        SafetensorsFile file(env, "damaged");
        size_t total = 0;
        for (const auto& tensor : file.tensors()) total += tensor.bytes.size();
        EXPECT_EQ(total, 6u);
      });
  EXPECT_GT(refused, trials / 3);
  EXPECT_LT(refused, trials);
}

TEST(SafetensorsBadInput, AMissingFileIsNotFound) {
  EXPECT_THROW(SafetensorsFile(posix_env(), "/nonexistent/x.safetensors"), NotFound);
}

}  // namespace
}  // namespace deepseek_train::formats
