// ggml's blocks to float. The loops are plain, so that the compiler turns them into vector code.
#include <array>
#include <bit>
#include <cstring>

#include "deepseek_train/core/dtype.h"
#include "deepseek_train/core/error.h"
#include "src/formats/checked_math.h"
#include "src/formats/ggml_types.h"

namespace deepseek_train::formats {
namespace {

constexpr size_t kBlock = 32;

// The layouts of ggml-common.h. Scales are fp16 bits.
struct BlockQ4_0 {
  uint16_t scale;
  uint8_t nibbles[kBlock / 2];
};
struct BlockQ4_1 {
  uint16_t scale;
  uint16_t minimum;
  uint8_t nibbles[kBlock / 2];
};
struct BlockQ8_0 {
  uint16_t scale;
  int8_t values[kBlock];
};
static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ8_0) == 34);

// As to_float(Float16), without branches: one select for subnormals, one for infinity and NaN.
inline float float_of_fp16(uint16_t bits) {
  uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  uint32_t magnitude = bits & 0x7fffu;
  uint32_t normal = (magnitude << 13) + (112u << 23);
  uint32_t infinite = (magnitude << 13) | 0x7f800000u;
  uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(0x3f000000u | magnitude) - 0.5f);
  uint32_t result = magnitude >= 0x7c00u ? infinite : normal;
  return std::bit_cast<float>(sign | (magnitude < 0x400u ? subnormal : result));
}

// The low nibbles are the first half of the block, the high ones the second.
void expand(const BlockQ4_0& block, float* values) {
  float scale = float_of_fp16(block.scale);
  for (size_t j = 0; j < kBlock / 2; ++j) {
    values[j] = static_cast<float>((block.nibbles[j] & 0xf) - 8) * scale;
    values[j + kBlock / 2] = static_cast<float>((block.nibbles[j] >> 4) - 8) * scale;
  }
}

void expand(const BlockQ4_1& block, float* values) {
  float scale = float_of_fp16(block.scale);
  float minimum = float_of_fp16(block.minimum);
  for (size_t j = 0; j < kBlock / 2; ++j) {
    values[j] = static_cast<float>(block.nibbles[j] & 0xf) * scale + minimum;
    values[j + kBlock / 2] = static_cast<float>(block.nibbles[j] >> 4) * scale + minimum;
  }
}

void expand(const BlockQ8_0& block, float* values) {
  float scale = float_of_fp16(block.scale);
  for (size_t j = 0; j < kBlock; ++j) values[j] = static_cast<float>(block.values[j]) * scale;
}

template <typename Block>
void expand_all(std::span<const std::byte> bytes, std::span<float> values) {
  for (size_t i = 0; i < values.size() / kBlock; ++i) {
    Block block;
    std::memcpy(&block, bytes.data() + i * sizeof(Block), sizeof(Block));
    expand(block, values.data() + i * kBlock);
  }
}

template <typename Widen>
void widen_all(std::span<const std::byte> bytes, std::span<float> values, Widen widen) {
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, bytes.data() + i * sizeof(bits), sizeof(bits));
    values[i] = widen(bits);
  }
}

}  // namespace

int64_t GgufTensor::num_elements() const {
  auto count = checked_product(shape, 1);
  DST_CHECK(count.has_value(), describe(*this), " has an impossible shape ", shape);
  return static_cast<int64_t>(*count);
}

void dequantize(const GgufTensor& tensor, std::span<float> values) {
  auto wanted = static_cast<size_t>(tensor.num_elements());
  DST_CHECK(values.size() == wanted, describe(tensor), " of shape ", tensor.shape, " has ", wanted,
            " values, the buffer given holds ", values.size());
  const auto* info = find_ggml_type(static_cast<uint32_t>(tensor.type));
  DST_CHECK(info && tensor.bytes.size() == wanted / info->values_per_block * info->bytes_per_block,
            describe(tensor), " of type ", name_of(tensor.type), " has ", tensor.bytes.size(),
            " bytes, which does not fit its shape ", tensor.shape);
  switch (tensor.type) {
    case GgmlType::kF32:
      if (wanted > 0) std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
      return;
    case GgmlType::kF16: return widen_all(tensor.bytes, values, float_of_fp16);
    case GgmlType::kBF16:
      return widen_all(tensor.bytes, values,
                       [](uint16_t bits) { return to_float(BFloat16{bits}); });
    case GgmlType::kQ4_0: return expand_all<BlockQ4_0>(tensor.bytes, values);
    case GgmlType::kQ4_1: return expand_all<BlockQ4_1>(tensor.bytes, values);
    case GgmlType::kQ8_0: return expand_all<BlockQ8_0>(tensor.bytes, values);
    default:
      throw InvalidArgument(concat(describe(tensor), " is ", name_of(tensor.type), " (type ",
                                   static_cast<uint32_t>(tensor.type),
                                   "); this library reads F32, F16, BF16, Q8_0, Q4_0 and Q4_1: "
                                   "convert the file to one of these"));
  }
}

}  // namespace deepseek_train::formats
