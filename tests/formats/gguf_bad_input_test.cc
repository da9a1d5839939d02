// Every way in which a GGUF file can lie about itself.
#include <gtest/gtest.h>

#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/gguf.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/memory_env.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/damage.h"
#include "tests/support/trials.h"

namespace deepseek_train::formats {
namespace {

std::string error_of_bytes(std::string_view bytes) {
  MemoryEnv env(bytes);
  auto text = error_of<DataCorruption>([&] { GgufFile(env, "bad.gguf"); });
  EXPECT_TRUE(contains(text, "bad.gguf")) << text;
  EXPECT_LT(text.size(), 1000u);
  return text;
}

void expect_error(const GgufBuilder& builder, std::string_view wanted) {
  auto text = error_of_bytes(builder.build());
  EXPECT_TRUE(contains(text, wanted)) << text;
}

GgufBuilder with_metadata(uint32_t type, std::string_view value) {
  return GgufBuilder().metadata("key", type, value);
}

GgufBuilder with_tensor(const std::vector<uint64_t>& dimensions, uint32_t type,
                        uint64_t offset = 0) {
  return GgufBuilder().tensor("t", dimensions, type, offset).data(std::string(64, 'x'));
}

TEST(GgufBadInput, ACutAtEveryByteIsRefused) {
  std::string whole =
      GgufBuilder()
          .metadata("name", kString, raw_string("abc"))
          .metadata("list", kArray, raw<uint32_t>(kString) + raw<uint64_t>(1) + raw_string("d"))
          .metadata("numbers", kArray, raw<uint32_t>(kI32) + raw<uint64_t>(2) + raw<uint64_t>(0))
          .tensor("weight", {2, 2}, 0, 0)
          .data(std::string(16, 'x'))
          .build();
  test_support::for_every_cut(whole, error_of_bytes);
}

TEST(GgufBadInput, MagicAndVersion) {
  GgufBuilder builder;
  builder.magic = "GGML";
  expect_error(builder, "another kind of file");
  for (uint32_t version : {0u, 1u, 4u, 0x03000000u}) {
    GgufBuilder other;
    other.version = version;
    expect_error(other, concat("version ", version));
  }
}

TEST(GgufBadInput, HugeCounts) {
  for (uint64_t count : {uint64_t{2}, uint64_t{1} << 40, UINT64_MAX}) {
    auto many_metadata = with_metadata(kU8, raw<uint8_t>(1));
    many_metadata.num_metadata = count;
    error_of_bytes(many_metadata.build());
    auto many_tensors = with_tensor({4}, 0);
    many_tensors.num_tensors = count;
    error_of_bytes(many_tensors.build());
    expect_error(with_metadata(kString, raw(count) + "a"), "\"key\"");
    expect_error(with_metadata(kArray, raw<uint32_t>(kString) + raw(count) + raw_string("a")),
                 "\"key\"");
    expect_error(with_metadata(kArray, raw<uint32_t>(kF64Value) + raw(count) + "a"), "\"key\"");
    expect_error(with_metadata(kArray, raw<uint32_t>(kBool) + raw(count) + "\x01"), "\"key\"");
  }
}

TEST(GgufBadInput, Values) {
  expect_error(with_metadata(13, raw<uint64_t>(0)), "value type 13");
  expect_error(with_metadata(kArray, raw<uint32_t>(77) + raw<uint64_t>(0)), "value type 77");
  expect_error(with_metadata(kArray, raw<uint32_t>(kArray) + raw<uint64_t>(1) + raw<uint32_t>(kU8) +
                                         raw<uint64_t>(0)),
               "array of arrays");
  expect_error(with_metadata(kBool, "\x02"), "wanted 0 or 1");
  expect_error(with_metadata(kArray, raw<uint32_t>(kU64) + raw<uint64_t>(1) + raw(UINT64_MAX)),
               "2^63");
}

TEST(GgufBadInput, AnErrorOfATensorNamesFileAndBytes) {
  MemoryEnv env(GgufBuilder().tensor("t", {256}, 12, 0).data(std::string(144, 'x')).build());
  const GgufFile file(env, "k.gguf");
  std::vector<float> values(256);
  const auto text = error_of<InvalidArgument>([&] { file.dequantize("t", values); });
  EXPECT_TRUE(contains(text, "k.gguf: tensor \"t\" (bytes 64 to 208)")) << text;
}

TEST(GgufBadInput, DuplicateNames) {
  expect_error(with_metadata(kU8, "\x01").metadata("key", kU8, "\x02"),
               "\"key\" (from byte 40) stands in the file twice");
  expect_error(
      GgufBuilder().tensor("t", {1}, 0, 0).tensor("t", {1}, 0, 32).data(std::string(64, 'x')),
      "\"t\" stands in the file twice");
}

TEST(GgufBadInput, Alignment) {
  for (uint32_t alignment : {0u, 3u, 48u})
    expect_error(GgufBuilder().metadata("general.alignment", kU32, raw(alignment)), "power of two");
  expect_error(GgufBuilder().metadata("general.alignment", kString, raw_string("32")),
               "power of two");
  expect_error(GgufBuilder().metadata("general.alignment", kU64, raw(uint64_t{1} << 63)),
               "power of two");
}

TEST(GgufBadInput, Tensors) {
  expect_error(with_tensor({4}, 4), "unknown type 4");
  expect_error(with_tensor({4}, 1000), "unknown type 1000");
  expect_error(with_tensor({1, 1, 1, 1, 1}, 0), "5 dimensions");
  expect_error(with_tensor({UINT64_MAX}, 0), "dimension of 18446744073709551615");
  expect_error(with_tensor({uint64_t{1} << 32, uint64_t{1} << 32}, 0), "overflows");
  expect_error(with_tensor({uint64_t{1} << 59, 2}, 0), "cut");
  expect_error(with_tensor({uint64_t{1} << 62}, 28), "overflows");
  expect_error(with_tensor({33}, 8), "blocks of 32");
  expect_error(with_tensor({16, 2}, 2), "blocks of 32");
  expect_error(with_tensor({17}, 0), "the file is cut");
  expect_error(with_tensor({1}, 0, 8), "multiple of the alignment");
  expect_error(with_tensor({1}, 0, 64), "the file is cut");
  expect_error(with_tensor({8}, 0, UINT64_MAX - 31), "the file is cut");
  expect_error(
      GgufBuilder().tensor("a", {9}, 0, 0).tensor("b", {1}, 0, 32).data(std::string(64, 'x')),
      "overlap");
}

// Whatever bytes are altered, opening and reading ends in values or in one of our errors.
TEST(GgufBadInput, RandomDamageIsReadOrRefused) {
  const std::string whole =
      GgufBuilder()
          .metadata("list", kArray, raw<uint32_t>(kString) + raw<uint64_t>(1) + raw_string("d"))
          .metadata("number", kU32, raw<uint32_t>(32))
          .tensor("weight", {32, 2}, 8, 0)
          .data(std::string(96, 'x'))
          .build();
  const int trials = test_support::num_trials(3000, 1'000'000);
  const int refused =
      test_support::refused_of_damaged(whole, /*seed=*/11, trials, [](const std::string& damaged) {
        MemoryEnv env(damaged);
        GgufFile file(env, "damaged");
        for (const auto& tensor : file.tensors()) {
          std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
          dequantize(tensor, values);
        }
      });
  EXPECT_GT(refused, trials / 3);
  EXPECT_LT(refused, trials);
}

TEST(GgufBadInput, AMissingFileIsNotFound) {
  EXPECT_THROW(GgufFile(posix_env(), "/nonexistent/x.gguf"), NotFound);
}

}  // namespace
}  // namespace deepseek_train::formats
