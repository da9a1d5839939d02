// dequantize() against block formulas written one value at a time. test_formats.py compares with
// the gguf package too.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "deepseek_train/core/dtype.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/formats/gguf.h"
#include "tests/formats/temporary_folder.h"

namespace deepseek_train::formats {
namespace {

std::vector<std::byte> random_bytes(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

GgufTensor tensor_over(GgmlType type, int64_t num_values, std::span<const std::byte> bytes) {
  return {"t", type, {num_values}, bytes};
}

int byte_at(std::span<const std::byte> bytes, size_t i) { return std::to_integer<int>(bytes[i]); }

float fp16_at(std::span<const std::byte> bytes, size_t i) {
  return to_float(Float16{static_cast<uint16_t>(byte_at(bytes, i) | byte_at(bytes, i + 1) << 8)});
}

int nibble(std::span<const std::byte> nibbles, size_t i) {
  return i < 16 ? byte_at(nibbles, i) & 15 : byte_at(nibbles, i - 16) >> 4;
}

float reference_value(GgmlType type, std::span<const std::byte> bytes, size_t i) {
  auto block = [&](size_t size) { return bytes.subspan(i / 32 * size, size); };
  switch (type) {
    case GgmlType::kQ4_0:
      return fp16_at(block(18), 0) * static_cast<float>(nibble(block(18).subspan(2), i % 32) - 8);
    case GgmlType::kQ4_1:
      return fp16_at(block(20), 0) * static_cast<float>(nibble(block(20).subspan(4), i % 32)) +
             fp16_at(block(20), 2);
    case GgmlType::kQ8_0:
      return fp16_at(block(34), 0) *
             static_cast<float>(static_cast<int8_t>(byte_at(block(34), 2 + i % 32)));
    case GgmlType::kF16: return fp16_at(bytes, 2 * i);
    case GgmlType::kBF16:
      return to_float(
          BFloat16{static_cast<uint16_t>(byte_at(bytes, 2 * i) | byte_at(bytes, 2 * i + 1) << 8)});
    default: throw Internal("the test has no reference for this type");
  }
}

// NaN equals NaN; everything else, the sign of zero too, bit by bit.
bool same(float a, float b) {
  return std::isnan(a) ? std::isnan(b) : std::memcmp(&a, &b, sizeof(a)) == 0;
}

struct TypeCase {
  GgmlType type;
  size_t values_per_block;
  size_t bytes_per_block;
};

class Dequantize : public testing::TestWithParam<TypeCase> {};

TEST_P(Dequantize, EqualsTheReference) {
  auto [type, values_per_block, bytes_per_block] = GetParam();
  for (size_t num_blocks : {size_t{0}, size_t{1}, size_t{3}, size_t{5000}}) {
    auto bytes = random_bytes(num_blocks * bytes_per_block, 17);
    std::vector<float> values(num_blocks * values_per_block);
    dequantize(tensor_over(type, static_cast<int64_t>(values.size()), bytes), values);
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_TRUE(same(values[i], reference_value(type, bytes, i)))
          << "value " << i << " of " << name_of(type);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Dequantize,
                         testing::Values(TypeCase{GgmlType::kQ4_0, 32, 18},
                                         TypeCase{GgmlType::kQ4_1, 32, 20},
                                         TypeCase{GgmlType::kQ8_0, 32, 34},
                                         TypeCase{GgmlType::kF16, 1, 2},
                                         TypeCase{GgmlType::kBF16, 1, 2}),
                         [](const auto& info) { return std::string(name_of(info.param.type)); });

TEST(DequantizeF16, AllBitPatternsEqualTheCore) {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  std::vector<float> values(bits.size());
  dequantize(tensor_over(GgmlType::kF16, 65536, std::as_bytes(std::span(bits))), values);
  for (size_t i = 0; i < bits.size(); ++i)
    ASSERT_TRUE(same(values[i], to_float(Float16{bits[i]}))) << i;
}

TEST(DequantizeErrors, OtherTypesAreRefusedByName) {
  std::vector<std::byte> bytes(144);
  std::vector<float> values(256);
  auto text = error_of<InvalidArgument>(
      [&] { dequantize(tensor_over(GgmlType::kQ4_K, 256, bytes), values); });
  EXPECT_TRUE(contains(text, "Q4_K (type 12)")) << text;
}

TEST(DequantizeErrors, SizesMustFit) {
  std::vector<std::byte> bytes(34);
  std::vector<float> values(33);
  EXPECT_THROW(dequantize(tensor_over(GgmlType::kQ8_0, 32, bytes), values), InvalidArgument);
  auto cut = std::span(bytes).first(33);
  EXPECT_THROW(dequantize(tensor_over(GgmlType::kQ8_0, 32, cut), std::span(values).first(32)),
               InvalidArgument);
  EXPECT_THROW((GgufTensor{"t", GgmlType::kF32, {-1}, {}}.num_elements()), InvalidArgument);
}

}  // namespace
}  // namespace deepseek_train::formats
