// Every level against a naive reference, bit by bit.
#include "deepseek_train/quantization/row_kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "deepseek_train/core/error.h"
#include "tests/support/trials.h"

namespace deepseek_train::quantization {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kTiniest = std::numeric_limits<float>::denorm_min();
const int64_t kWidths[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 48, 64, 100, 257, 1000};

struct Matrix {
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<float> values;
};

// Rows of every kind: ordinary, zeros, huge, tiny, denormal, ties, with an outlier.
Matrix hard_matrix(int64_t columns, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const float sizes[] = {1.0f, 0.0f, -0.0f, 1e38f, 1e-30f, 1e-38f, 4 * kTiniest, 1e-42f, 1e-3f};
  Matrix matrix{.rows = 0, .columns = columns};
  for (float size : sizes) {
    for (int64_t i = 0; i < columns; ++i) matrix.values.push_back(normal(random) * size);
    ++matrix.rows;
  }
  // Absmax 127.5 makes the scale 1: halves are exact ties, and 127.5 itself must be clamped.
  for (int64_t i = 0; i < columns; ++i) {
    matrix.values.push_back(i == 0 ? 127.5f : static_cast<float>(i % 256) - 127.5f);
  }
  for (int64_t i = 0; i < columns; ++i)
    matrix.values.push_back(i == columns - 1 ? -1e4f : normal(random));
  matrix.rows += 2;
  return matrix;
}

std::vector<BFloat16> to_bfloat16(const std::vector<float>& values) {
  std::vector<BFloat16> halves;
  for (float value : values) halves.push_back(deepseek_train::to_bfloat16(value));
  return halves;
}

std::vector<float> widened(const std::vector<BFloat16>& values) {
  std::vector<float> floats;
  for (BFloat16 value : values) floats.push_back(to_float(value));
  return floats;
}

// The convention of int8.h, one value at a time.
struct Reference {
  std::vector<float> scales;
  std::vector<float> levels;

  explicit Reference(const Matrix& x) {
    for (int64_t r = 0; r < x.rows; ++r) {
      float absmax = 0;
      for (int64_t c = 0; c < x.columns; ++c)
        absmax = std::max(absmax, std::fabs(x.values[r * x.columns + c]));
      float scale = absmax / 127.5f;
      if (scale == 0) scale = 1.1920928955078125e-07f;
      scales.push_back(scale);
      for (int64_t c = 0; c < x.columns; ++c) {
        const float quotient = x.values[r * x.columns + c] / scale + 0.0f;
        levels.push_back(std::nearbyint(std::min(127.0f, std::max(-128.0f, quotient))));
      }
    }
  }
};

template <typename T>
uint32_t bits_of(T value) {
  if constexpr (std::is_same_v<T, float>)
    return std::bit_cast<uint32_t>(value);
  else if constexpr (std::is_same_v<T, BFloat16>)
    return value.bits;
  else
    return static_cast<uint32_t>(value);
}

template <typename T>
void expect_same_bits(const std::vector<T>& found, const std::vector<T>& wanted,
                      const std::string& what) {
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < found.size(); ++i)
    ASSERT_EQ(bits_of(found[i]), bits_of(wanted[i])) << what << " at " << i;
}

class RowKernelsTest : public testing::TestWithParam<SimdLevel> {
 protected:
  const RowKernels& kernels() const { return row_kernels(GetParam()); }
};

TEST_P(RowKernelsTest, QuantizesAsTheReference) {
  for (int64_t columns : kWidths) {
    const Matrix x = hard_matrix(columns, 1);
    const Reference reference(x);
    std::vector<int8_t> s8(x.values.size()), wanted_s8;
    std::vector<uint8_t> u8(x.values.size()), wanted_u8;
    for (float level : reference.levels) {
      wanted_s8.push_back(static_cast<int8_t>(level));
      wanted_u8.push_back(static_cast<uint8_t>(level + 128));
    }
    std::vector<float> scales(x.rows);
    kernels().quantize_f32_s8(x.values.data(), x.rows, columns, s8.data(), scales.data());
    expect_same_bits(scales, reference.scales, concat("scales, ", columns, " columns"));
    expect_same_bits(s8, wanted_s8, concat("s8, ", columns, " columns"));
    scales.assign(x.rows, -1.0f);
    kernels().quantize_f32_u8(x.values.data(), x.rows, columns, u8.data(), scales.data());
    expect_same_bits(scales, reference.scales, concat("scales, ", columns, " columns"));
    expect_same_bits(u8, wanted_u8, concat("u8, ", columns, " columns"));
  }
}

TEST_P(RowKernelsTest, QuantizesBf16AsItsWidenedValues) {
  for (int64_t columns : kWidths) {
    Matrix x = hard_matrix(columns, 2);
    const std::vector<BFloat16> halves = to_bfloat16(x.values);
    x.values = widened(halves);
    std::vector<int8_t> s8(halves.size()), wanted_s8(halves.size());
    std::vector<uint8_t> u8(halves.size()), wanted_u8(halves.size());
    std::vector<float> scales(x.rows), wanted_scales(x.rows);
    kernels().quantize_f32_s8(x.values.data(), x.rows, columns, wanted_s8.data(),
                              wanted_scales.data());
    kernels().quantize_f32_u8(x.values.data(), x.rows, columns, wanted_u8.data(),
                              wanted_scales.data());
    kernels().quantize_bf16_s8(halves.data(), x.rows, columns, s8.data(), scales.data());
    expect_same_bits(scales, wanted_scales, "scales");
    kernels().quantize_bf16_u8(halves.data(), x.rows, columns, u8.data(), scales.data());
    expect_same_bits(scales, wanted_scales, "scales");
    expect_same_bits(s8, wanted_s8, "s8");
    expect_same_bits(u8, wanted_u8, "u8");
  }
}

TEST_P(RowKernelsTest, FakeQuantizesAsTheReference) {
  for (int64_t columns : kWidths) {
    const Matrix x = hard_matrix(columns, 3);
    const Reference reference(x);
    std::vector<float> wanted;
    for (size_t i = 0; i < x.values.size(); ++i) {
      wanted.push_back(reference.levels[i] * reference.scales[i / static_cast<size_t>(columns)]);
    }
    std::vector<float> f32(wanted.size());
    std::vector<BFloat16> bf16(wanted.size());
    kernels().fake_quantize_f32_f32(x.values.data(), x.rows, columns, f32.data());
    kernels().fake_quantize_f32_bf16(x.values.data(), x.rows, columns, bf16.data());
    expect_same_bits(f32, wanted, concat("f32, ", columns, " columns"));
    expect_same_bits(bf16, to_bfloat16(wanted), concat("bf16, ", columns, " columns"));
  }
}

// Every kind of quotient: random bits within the row's range, for scales over the whole range of
// floats.
TEST_P(RowKernelsTest, QuotientsAreThoseOfDivisionForRandomBits) {
  std::mt19937 random(7);
  for (int round = 0; round < test_support::num_trials(3000, 300'000); ++round) {
    const float absmax = std::bit_cast<float>(static_cast<uint32_t>(random() % 0x7f7fffffu) + 1);
    Matrix x{.rows = 1, .columns = 256, .values = {absmax}};
    std::uniform_real_distribution<float> level(-127.5f, 127.5f);
    const float scale = absmax / 127.5f;
    while (x.values.size() < 256) {
      float value = 0;
      switch (random() % 4) {
        case 0: value = level(random) * scale; break;
        case 1: value = (std::floor(level(random)) + 0.5f) * scale; break;  // about a tie
        case 2: value = std::nextafter((std::floor(level(random)) + 0.5f) * scale, kInf); break;
        case 3: value = std::bit_cast<float>(static_cast<uint32_t>(random())); break;
      }
      if (std::fabs(value) <= absmax) x.values.push_back(value);
    }
    const Reference reference(x);
    std::vector<float> wanted, output(256);
    for (float q : reference.levels) wanted.push_back(q * reference.scales[0]);
    kernels().fake_quantize_f32_f32(x.values.data(), 1, 256, output.data());
    expect_same_bits(output, wanted, concat("absmax ", absmax));
    std::vector<int8_t> q(256), wanted_q;
    for (float level_wanted : reference.levels)
      wanted_q.push_back(static_cast<int8_t>(level_wanted));
    std::vector<float> scales(1);
    kernels().quantize_f32_s8(x.values.data(), 1, 256, q.data(), scales.data());
    expect_same_bits(q, wanted_q, concat("absmax ", absmax));
  }
}

TEST_P(RowKernelsTest, FakeQuantizesBf16InPlace) {
  Matrix x = hard_matrix(101, 4);
  std::vector<BFloat16> halves = to_bfloat16(x.values);
  x.values = widened(halves);
  std::vector<BFloat16> wanted(halves.size());
  kernels().fake_quantize_f32_bf16(x.values.data(), x.rows, 101, wanted.data());
  kernels().fake_quantize_bf16_bf16(halves.data(), x.rows, 101, halves.data());
  expect_same_bits(halves, wanted, "bf16");
}

// A diverging run must be seen: neither NaN nor infinity may be rounded away.
TEST_P(RowKernelsTest, NanAndInfinitySpoilTheirWholeRowAndNoOther) {
  for (float bad : {NAN, -NAN, kInf, -kInf}) {
    for (int64_t place : {0, 5, 16, 20, 36}) {
      Matrix x{.rows = 2, .columns = 37, .values = std::vector<float>(74, 1.0f)};
      x.values[place] = bad;
      std::vector<float> output(74);
      kernels().fake_quantize_f32_f32(x.values.data(), 2, 37, output.data());
      std::vector<int8_t> q(74);
      std::vector<float> scales(2);
      kernels().quantize_f32_s8(x.values.data(), 2, 37, q.data(), scales.data());
      EXPECT_FALSE(std::isfinite(scales[0]));
      EXPECT_EQ(scales[1], 1.0f / 127.5f);
      for (int64_t i = 0; i < 37; ++i) {
        EXPECT_TRUE(std::isnan(output[i]))
            << "value " << bad << " at " << place << ", output " << i;
        EXPECT_EQ(output[37 + i], 127 * (1.0f / 127.5f));
        EXPECT_EQ(q[i], std::isnan(bad) || i == place ? -128 : 0);
      }
    }
  }
}

TEST_P(RowKernelsTest, AbsmaxFindsTheLargestMagnitudeAnywhere) {
  for (int64_t count : kWidths) {
    for (int64_t place = 0; place < count; place += 1 + count / 20) {
      std::vector<float> values(count, 0.5f);
      values[place] = -2.5f;
      EXPECT_EQ(kernels().absmax(values.data(), count), 2.5f) << place << " of " << count;
    }
  }
  EXPECT_EQ(kernels().absmax(nullptr, 0), 0.0f);
}

TEST_P(RowKernelsTest, RoundsToBf16AsCoreDoes) {
  // A channel scale of 1 and a row scale of 1 leave the conversion alone.
  std::vector<float> values = {0.0f,  -0.0f,    1.00390625f, 1.01171875f, kInf,
                               -kInf, kTiniest, 3.4e38f,     -1e-40f};
  for (uint32_t bits = 1; bits < 0x7f800000u; bits += 104729 * 17)
    values.push_back(std::bit_cast<float>(bits));
  const std::vector<float> ones(values.size(), 1.0f);
  std::vector<BFloat16> output(values.size());
  const OutputScales scales{.rows = ones.data(), .channels = ones.data()};
  kernels().rescale_f32_bf16(values.data(), 1, static_cast<int64_t>(values.size()), scales,
                             output.data());
  expect_same_bits(output, to_bfloat16(values), "bf16");
  const float nan = NAN;
  for (int i = 0; i < 33; ++i) values[i] = nan;
  kernels().rescale_f32_bf16(values.data(), 1, static_cast<int64_t>(values.size()), scales,
                             output.data());
  for (int i = 0; i < 33; ++i) EXPECT_TRUE(std::isnan(to_float(output[i])));
}

TEST_P(RowKernelsTest, RescalesAsTheReference) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (int64_t columns : kWidths) {
    const int64_t rows = 3, count = rows * columns;
    std::vector<int32_t> product(count);
    for (auto& value : product) value = static_cast<int32_t>(random());
    std::vector<float> row(rows), channel(columns), bias(columns);
    for (auto* values : {&row, &channel, &bias}) {
      for (float& value : *values) value = normal(random);
    }
    for (bool with_bias : {false, true}) {
      std::vector<float> wanted, as_float;
      for (int64_t i = 0; i < count; ++i) {
        as_float.push_back(static_cast<float>(product[i]));
        volatile float scaled =
            as_float.back() * channel[i % columns];  // volatile: no fused multiply-add
        scaled = scaled * row[i / columns];
        wanted.push_back(with_bias ? scaled + bias[i % columns] : scaled);
      }
      const OutputScales scales{row.data(), channel.data(), with_bias ? bias.data() : nullptr};
      std::vector<float> f32(count), in_place = as_float;
      std::vector<BFloat16> bf16(count), bf16_of_floats(count);
      kernels().rescale_s32_f32(product.data(), rows, columns, scales, f32.data());
      kernels().rescale_s32_bf16(product.data(), rows, columns, scales, bf16.data());
      kernels().rescale_f32_bf16(as_float.data(), rows, columns, scales, bf16_of_floats.data());
      kernels().rescale_f32_f32(in_place.data(), rows, columns, scales, in_place.data());
      expect_same_bits(f32, wanted, "s32 to f32");
      expect_same_bits(in_place, wanted, "f32 in place");
      expect_same_bits(bf16, to_bfloat16(wanted), "s32 to bf16");
      expect_same_bits(bf16_of_floats, to_bfloat16(wanted), "f32 to bf16");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, RowKernelsTest, testing::ValuesIn(supported_simd_levels()),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST(RowKernelsChoiceTest, TheBestLevelIsChosenAndAbsentOnesAreNamed) {
  EXPECT_EQ(row_kernels().level, supported_simd_levels().back());
  EXPECT_EQ(supported_simd_levels().front(), SimdLevel::kPortable);
  EXPECT_EQ(row_kernels(SimdLevel::kPortable).level, SimdLevel::kPortable);
  const auto levels = supported_simd_levels();
  for (SimdLevel level : {SimdLevel::kAvx2, SimdLevel::kAvx512}) {
    if (std::find(levels.begin(), levels.end(), level) == levels.end()) {
      EXPECT_THROW(row_kernels(level), Unavailable);
    }
  }
}

}  // namespace
}  // namespace deepseek_train::quantization
