#include "deepseek_train/quantization/fp8_block.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "deepseek_train/core/error.h"
#include "quantization/encodings/fp8_block/fp8_kernels.h"

namespace deepseek_train::quantization {
namespace {

// The kernels of one type of weight.
template <typename Weight>
struct KernelsFor;
template <>
struct KernelsFor<BFloat16> {
  static constexpr auto kDecode = &Fp8Kernels::decode_bf16;
  static constexpr auto kLargestBits = &Fp8Kernels::largest_bits_bf16;
  static constexpr auto kEncode = &Fp8Kernels::encode_bf16;
};
template <>
struct KernelsFor<float> {
  static constexpr auto kDecode = &Fp8Kernels::decode_f32;
  static constexpr auto kLargestBits = &Fp8Kernels::largest_bits_f32;
  static constexpr auto kEncode = &Fp8Kernels::encode_f32;
};

// As in DeepSeek's kernels: keeps the scale of a block of zeros from being zero.
constexpr float kSmallestMagnitude = 1e-4f;
constexpr uint32_t kInfinityBits = 0x7f800000u;

void check_weights(const Fp8BlockShape& shape, size_t num_weights, size_t num_scales) {
  DST_CHECK(shape.rows >= 0 && shape.columns >= 0, "FP8 blocks of shape [", shape.rows, ", ",
            shape.columns, "]: sizes must not be negative");
  DST_CHECK(num_weights == static_cast<size_t>(shape.num_values()), "FP8 blocks of shape [",
            shape.rows, ", ", shape.columns, "] have ", shape.num_values(), " weights, ",
            num_weights, " were given");
  DST_CHECK(num_scales == static_cast<size_t>(shape.num_scales()), "FP8 blocks of shape [",
            shape.rows, ", ", shape.columns, "] have ", shape.num_scales(), " scales, ", num_scales,
            " were given");
}

void check_values(const Fp8BlockShape& shape, size_t num_values) {
  DST_CHECK(num_values == static_cast<size_t>(shape.num_values()), "FP8 blocks of shape [",
            shape.rows, ", ", shape.columns, "] have ", shape.num_values(), " values, ", num_values,
            " were given");
}

// Calls visit(first value, how many, block) for each stretch of a row inside a block, row by row,
// as memory lies.
template <typename Visit>
void for_each_stretch(const Fp8BlockShape& shape, Visit visit) {
  for (int64_t row = 0; row < shape.rows; ++row) {
    const int64_t first_block = row / kFp8BlockSize * shape.block_columns();
    for (int64_t column = 0; column < shape.columns; column += kFp8BlockSize)
      visit(row * shape.columns + column, std::min(kFp8BlockSize, shape.columns - column),
            first_block + column / kFp8BlockSize);
  }
}

template <typename Weight>
void decode(const Fp8BlockShape& shape, std::span<const Float8E4M3> values,
            std::span<const float> scales, std::span<Weight> weight) {
  check_weights(shape, weight.size(), scales.size());
  check_values(shape, values.size());
  const auto decode_stretch = fp8_kernels().*KernelsFor<Weight>::kDecode;
  for_each_stretch(shape, [&](int64_t first, int64_t count, int64_t block) {
    decode_stretch(values.data() + first, count, scales[static_cast<size_t>(block)],
                   weight.data() + first);
  });
}

float scale_of(uint32_t largest_bits, Fp8ScaleFormat format) {
  const float scale =
      std::max(std::bit_cast<float>(largest_bits), kSmallestMagnitude) / kLargestFloat8E4M3;
  return format == Fp8ScaleFormat::kUe8m0 ? round_up_to_power_of_two(scale) : scale;
}

template <typename Weight>
void compute_scales(const Fp8BlockShape& shape, std::span<const Weight> weight,
                    Fp8ScaleFormat format, std::span<float> scales) {
  check_weights(shape, weight.size(), scales.size());
  const auto largest_bits = fp8_kernels().*KernelsFor<Weight>::kLargestBits;
  std::vector<uint32_t> largest(scales.size(), 0);
  for_each_stretch(shape, [&](int64_t first, int64_t count, int64_t block) {
    uint32_t& bits = largest[static_cast<size_t>(block)];
    bits = std::max(bits, largest_bits(weight.data() + first, count));
  });
  for (size_t block = 0; block < scales.size(); ++block) {
    const auto columns = static_cast<size_t>(shape.block_columns());
    DST_CHECK(largest[block] < kInfinityBits, "block [", block / columns, ", ", block % columns,
              "] of 128 x 128 holds a NaN or an infinity, which FP8 cannot keep; the weights are "
              "damaged: go back to an earlier checkpoint");
    scales[block] = scale_of(largest[block], format);
  }
}

template <typename Weight>
void encode(const Fp8BlockShape& shape, std::span<const Weight> weight,
            std::span<const float> scales, std::span<Float8E4M3> values) {
  check_weights(shape, weight.size(), scales.size());
  check_values(shape, values.size());
  const auto encode_stretch = fp8_kernels().*KernelsFor<Weight>::kEncode;
  for_each_stretch(shape, [&](int64_t first, int64_t count, int64_t block) {
    encode_stretch(weight.data() + first, count, scales[static_cast<size_t>(block)],
                   values.data() + first);
  });
}

}  // namespace

const Fp8Kernels& fp8_kernels() {
  static const Fp8Kernels& best = []() -> const Fp8Kernels& {
    for (const SimdLevel level : {SimdLevel::kAvx512, SimdLevel::kAvx2})
      if (const Fp8Kernels* found = find_fp8_kernels(level)) return *found;
    return portable_fp8_kernels();
  }();
  return best;
}

void decode_fp8_blocks(const Fp8BlockShape& shape, std::span<const Float8E4M3> values,
                       std::span<const float> scales, std::span<BFloat16> weight) {
  decode(shape, values, scales, weight);
}

void decode_fp8_blocks(const Fp8BlockShape& shape, std::span<const Float8E4M3> values,
                       std::span<const float> scales, std::span<float> weight) {
  decode(shape, values, scales, weight);
}

void compute_fp8_block_scales(const Fp8BlockShape& shape, std::span<const BFloat16> weight,
                              Fp8ScaleFormat format, std::span<float> scales) {
  compute_scales(shape, weight, format, scales);
}

void encode_fp8_blocks(const Fp8BlockShape& shape, std::span<const BFloat16> weight,
                       std::span<const float> scales, std::span<Float8E4M3> values) {
  encode(shape, weight, scales, values);
}

void compute_fp8_block_scales(const Fp8BlockShape& shape, std::span<const float> weight,
                              Fp8ScaleFormat format, std::span<float> scales) {
  compute_scales(shape, weight, format, scales);
}

void encode_fp8_blocks(const Fp8BlockShape& shape, std::span<const float> weight,
                       std::span<const float> scales, std::span<Float8E4M3> values) {
  encode(shape, weight, scales, values);
}

}  // namespace deepseek_train::quantization
