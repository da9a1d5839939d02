#include "deepseek_train/quantization/fp8_block.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "deepseek_train/core/error.h"
#include "quantization/encodings/fp8_block/fp8_kernels.h"

namespace deepseek_train::quantization {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The value of a code by the definition of the format, in double.
double naive_value(uint8_t code) {
  const int exponent = (code >> 3) & 15, mantissa = code & 7;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return code & 0x80 ? -magnitude : magnitude;
}

// The nearest code by trying all of them; of two equally near ones the even one.
uint8_t naive_code(float value) {
  if (std::isnan(value)) return std::signbit(value) ? 0xff : 0x7f;
  uint8_t best = 0;
  for (uint8_t code = 1; code < 0x7f; ++code) {
    const double error = std::abs(naive_value(code) - std::abs(double{value}));
    const double least = std::abs(naive_value(best) - std::abs(double{value}));
    if (error < least || (error == least && code % 2 == 0)) best = code;
  }
  return static_cast<uint8_t>(std::signbit(value) ? best | 0x80 : best);
}

// All that is hard to round: every value of the format, the middles between two, and their
// neighbours; denormals; values that overflow.
std::vector<float> hard_values() {
  std::vector<float> values = {0.0f,   1e-40f, 1e-10f,  448.1f,    463.9f,
                               464.0f, 1e4f,   3.4e38f, kInfinity, kNan};
  for (uint8_t code = 0; code < 0x7e; ++code) {
    const auto low = static_cast<float>(naive_value(code));
    const auto high = static_cast<float>(naive_value(static_cast<uint8_t>(code + 1)));
    for (const float value : {low, (low + high) / 2})
      for (const float near : {std::nextafter(value, -1.0f), value, std::nextafter(value, 1e9f)})
        values.push_back(near);
  }
  const size_t count = values.size();
  for (size_t i = 0; i < count; ++i) values.push_back(-values[i]);
  return values;
}

uint32_t bits_of(float value) { return std::bit_cast<uint32_t>(value); }

TEST(Float8E4M3, EveryCodeHasItsValue) {
  for (int code = 0; code < 256; ++code) {
    const float found = to_float(Float8E4M3{static_cast<uint8_t>(code)});
    if ((code & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(found)) << code;
    } else {
      EXPECT_EQ(bits_of(found),
                bits_of(static_cast<float>(naive_value(static_cast<uint8_t>(code)))))
          << code;
    }
  }
}

TEST(Float8E4M3, RoundsToNearestTiesToEvenAndSaturates) {
  for (const float value : hard_values())
    EXPECT_EQ(to_float8_e4m3(value).bits, naive_code(value)) << value;
}

TEST(Float8E8M0, PowersOfTwo) {
  for (int code = 0; code < 255; ++code)
    EXPECT_EQ(to_float(Float8E8M0{static_cast<uint8_t>(code)}), std::ldexp(1.0f, code - 127));
  EXPECT_TRUE(std::isnan(to_float(Float8E8M0{255})));
}

TEST(Float8E8M0, ScalesAreRoundedUp) {
  for (int exponent = -149; exponent < 127; ++exponent) {
    const float power = std::ldexp(1.0f, exponent);
    EXPECT_EQ(round_up_to_power_of_two(power), power);
    EXPECT_EQ(round_up_to_power_of_two(std::nextafter(power, 1e38f)), 2 * power);
    EXPECT_EQ(round_up_to_power_of_two(std::nextafter(2 * power, 0.0f)),
              exponent == -149 ? power : 2 * power);
  }
}

class Fp8KernelsTest : public testing::TestWithParam<SimdLevel> {
 protected:
  const Fp8Kernels* kernels_ = find_fp8_kernels(GetParam());
};

TEST_P(Fp8KernelsTest, DecodesEveryCodeAsThePortableLoop) {
  ASSERT_NE(kernels_, nullptr);
  std::vector<Float8E4M3> codes(256 + 7);
  for (size_t i = 0; i < codes.size(); ++i) codes[i].bits = static_cast<uint8_t>(i);
  const auto count = static_cast<int64_t>(codes.size());
  for (const float scale : {1.0f, 0.0f, 1e-3f, 0x1p-127f, 1e-42f, 3e38f, kNan}) {
    std::vector<float> found(codes.size()), wanted(codes.size());
    std::vector<BFloat16> found16(codes.size()), wanted16(codes.size());
    kernels_->decode_f32(codes.data(), count, scale, found.data());
    portable_fp8_kernels().decode_f32(codes.data(), count, scale, wanted.data());
    kernels_->decode_bf16(codes.data(), count, scale, found16.data());
    portable_fp8_kernels().decode_bf16(codes.data(), count, scale, wanted16.data());
    for (size_t i = 0; i < codes.size(); ++i) {
      if (std::isnan(wanted[i])) {
        EXPECT_TRUE(std::isnan(found[i])) << i << " * " << scale;
        EXPECT_TRUE(std::isnan(to_float(found16[i]))) << i << " * " << scale;
      } else {
        EXPECT_EQ(bits_of(found[i]), bits_of(wanted[i])) << i << " * " << scale;
        EXPECT_EQ(found16[i].bits, wanted16[i].bits) << i << " * " << scale;
      }
    }
  }
}

TEST_P(Fp8KernelsTest, EncodesAsThePortableLoop) {
  ASSERT_NE(kernels_, nullptr);
  auto values = hard_values();
  std::erase_if(values, [](float value) { return !std::isfinite(value); });
  std::mt19937 random(5);
  while (values.size() < 5003) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (std::isfinite(value)) values.push_back(value);
  }
  const auto count = static_cast<int64_t>(values.size());
  for (const float scale : {1.0f, 1e-3f, 1e-4f / 448, 0x1p-20f, 7.3e5f}) {
    std::vector<BFloat16> halves;
    for (const float value : values) halves.push_back(to_bfloat16(value));
    std::vector<Float8E4M3> found(values.size()), wanted(values.size());
    const auto expect_equal = [&] {
      for (size_t i = 0; i < values.size(); ++i)
        EXPECT_EQ(found[i].bits, wanted[i].bits) << values[i] << " / " << scale;
    };
    kernels_->encode_f32(values.data(), count, scale, found.data());
    portable_fp8_kernels().encode_f32(values.data(), count, scale, wanted.data());
    expect_equal();
    kernels_->encode_bf16(halves.data(), count, scale, found.data());
    portable_fp8_kernels().encode_bf16(halves.data(), count, scale, wanted.data());
    expect_equal();
  }
}

TEST_P(Fp8KernelsTest, FindsTheLargestMagnitude) {
  ASSERT_NE(kernels_, nullptr);
  for (size_t count = 0; count < 70; ++count) {
    for (size_t place = 0; place < count; ++place) {
      for (const float largest : {-5.5f, 1e-40f, -kInfinity, kNan}) {
        std::vector<float> values(count, 1e-41f);
        values[place] = largest;
        std::vector<BFloat16> halves(count, BFloat16{1});
        halves[place] = to_bfloat16(largest);
        const auto size = static_cast<int64_t>(count);
        EXPECT_EQ(kernels_->largest_bits_f32(values.data(), size), bits_of(largest) & 0x7fffffffu);
        EXPECT_EQ(kernels_->largest_bits_bf16(halves.data(), size),
                  bits_of(to_float(to_bfloat16(largest))) & 0x7fffffffu);
      }
    }
  }
  EXPECT_EQ(kernels_->largest_bits_f32(nullptr, 0), 0u);
}

INSTANTIATE_TEST_SUITE_P(All, Fp8KernelsTest, testing::ValuesIn(supported_simd_levels()),
                         [](const auto& info) { return std::string(name_of(info.param)); });

std::vector<float> random_weight(const Fp8BlockShape& shape, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> weight(static_cast<size_t>(shape.num_values()));
  for (float& value : weight) value = normal(random) * std::exp2(float(random() % 8));
  return weight;
}

class Fp8BlockTest : public testing::TestWithParam<Fp8BlockShape> {};

TEST_P(Fp8BlockTest, EncodesAndDecodesAsTheDefinitionSays) {
  const Fp8BlockShape shape = GetParam();
  const auto weight = random_weight(shape, 3);
  for (const auto format : {Fp8ScaleFormat::kFloat32, Fp8ScaleFormat::kUe8m0}) {
    std::vector<float> scales(static_cast<size_t>(shape.num_scales()), -1.0f);
    std::vector<Float8E4M3> values(weight.size());
    compute_fp8_block_scales(shape, std::span(weight), format, scales);
    encode_fp8_blocks(shape, std::span(weight), scales, values);
    std::vector<float> decoded(weight.size());
    std::vector<BFloat16> decoded16(weight.size());
    decode_fp8_blocks(shape, values, scales, std::span(decoded));
    decode_fp8_blocks(shape, values, scales, std::span(decoded16));

    std::vector<float> largest(scales.size(), 0.0f);
    const auto block_of = [&](int64_t row, int64_t column) {
      return static_cast<size_t>(row / 128 * ((shape.columns + 127) / 128) + column / 128);
    };
    for (int64_t row = 0; row < shape.rows; ++row)
      for (int64_t column = 0; column < shape.columns; ++column) {
        float& block = largest[block_of(row, column)];
        block =
            std::max(block, std::abs(weight[static_cast<size_t>(row * shape.columns + column)]));
      }
    for (size_t i = 0; i < scales.size(); ++i) {
      float wanted = std::max(largest[i], 1e-4f) / 448.0f;
      if (format == Fp8ScaleFormat::kUe8m0) wanted = std::exp2(std::ceil(std::log2(wanted)));
      ASSERT_EQ(scales[i], wanted) << "block " << i;
    }
    for (int64_t row = 0; row < shape.rows; ++row)
      for (int64_t column = 0; column < shape.columns; ++column) {
        const auto i = static_cast<size_t>(row * shape.columns + column);
        const float scale = scales[block_of(row, column)];
        ASSERT_EQ(values[i].bits, naive_code(weight[i] / scale)) << row << ", " << column;
        const float wanted = static_cast<float>(naive_value(values[i].bits)) * scale;
        ASSERT_EQ(decoded[i], wanted) << row << ", " << column;
        ASSERT_EQ(decoded16[i].bits, to_bfloat16(wanted).bits) << row << ", " << column;
      }
  }
}

// A checkpoint that came as FP8 and goes back to FP8 unchanged keeps its values.
TEST_P(Fp8BlockTest, DecodedWeightsEncodeToTheSameValues) {
  const Fp8BlockShape shape = GetParam();
  const auto weight = random_weight(shape, 4);
  for (const auto format : {Fp8ScaleFormat::kFloat32, Fp8ScaleFormat::kUe8m0}) {
    std::vector<float> scales(static_cast<size_t>(shape.num_scales())), again = scales;
    std::vector<Float8E4M3> values(weight.size()), values_again = values;
    std::vector<BFloat16> decoded(weight.size()), decoded_again = decoded;
    compute_fp8_block_scales(shape, std::span(weight), format, scales);
    encode_fp8_blocks(shape, std::span(weight), scales, values);
    decode_fp8_blocks(shape, values, scales, std::span(decoded));
    compute_fp8_block_scales(shape, std::span<const BFloat16>(decoded), format, again);
    encode_fp8_blocks(shape, std::span<const BFloat16>(decoded), again, values_again);
    decode_fp8_blocks(shape, values_again, again, std::span(decoded_again));
    for (size_t i = 0; i < weight.size(); ++i) {
      if (format == Fp8ScaleFormat::kUe8m0) {
        ASSERT_EQ(decoded_again[i].bits, decoded[i].bits) << i;
      } else {
        ASSERT_EQ(values_again[i].bits, values[i].bits) << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Fp8BlockTest,
    testing::Values(Fp8BlockShape{128, 128}, Fp8BlockShape{1, 1}, Fp8BlockShape{0, 5},
                    Fp8BlockShape{5, 0}, Fp8BlockShape{127, 129}, Fp8BlockShape{129, 127},
                    Fp8BlockShape{576, 256}, Fp8BlockShape{3, 1000}, Fp8BlockShape{300, 17}),
    [](const auto& info) { return concat(info.param.rows, "x", info.param.columns); });

TEST(Fp8Block, ABlockOfZerosStaysZero) {
  const Fp8BlockShape shape{2, 3};
  const std::vector<float> weight(6, 0.0f);
  std::vector<float> scales(1), decoded(6, 1.0f);
  std::vector<Float8E4M3> values(6);
  compute_fp8_block_scales(shape, std::span(weight), Fp8ScaleFormat::kFloat32, scales);
  EXPECT_EQ(scales[0], 1e-4f / 448.0f);
  encode_fp8_blocks(shape, std::span(weight), scales, values);
  decode_fp8_blocks(shape, values, scales, std::span(decoded));
  EXPECT_EQ(decoded, weight);
}

TEST(Fp8Block, NanAndInfinityAreRefusedWithTheirBlock) {
  const Fp8BlockShape shape{300, 300};
  for (const float bad : {kNan, -kNan, kInfinity, -kInfinity}) {
    std::vector<float> weight(300 * 300, 1.0f);
    weight[299 * 300 + 130] = bad;
    std::vector<float> scales(9);
    try {
      compute_fp8_block_scales(shape, std::span<const float>(weight), Fp8ScaleFormat::kUe8m0,
                               scales);
      FAIL() << "no error";
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find("block [2, 1]"), std::string::npos) << error.what();
    }
  }
}

TEST(Fp8Block, SizesThatDoNotFitAreRefused) {
  const Fp8BlockShape shape{2, 130};
  std::vector<float> weight(260), scales(2);
  std::vector<Float8E4M3> values(260);
  const auto decode = [&](size_t num_values, size_t num_scales, size_t num_weights) {
    decode_fp8_blocks(shape, std::span(values).first(num_values),
                      std::span(scales).first(num_scales), std::span(weight).first(num_weights));
  };
  decode(260, 2, 260);
  EXPECT_THROW(decode(259, 2, 260), InvalidArgument);
  EXPECT_THROW(decode(260, 1, 260), InvalidArgument);
  EXPECT_THROW(decode(260, 2, 259), InvalidArgument);
}

}  // namespace
}  // namespace deepseek_train::quantization
