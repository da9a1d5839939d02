#include "collectives/algorithms/block_int8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace deepseek_train::collectives {
namespace {

constexpr size_t kSize = BlockInt8::kSize;

size_t num_blocks(size_t count) { return (count + kSize - 1) / kSize; }

std::vector<float> random_floats(size_t count, unsigned seed, float scale) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (auto& value : values) value = normal(generator) * scale;
  return values;
}

// One value after another, with the library's rounding.
BlockInt8 naive_block(const float* values, size_t count) {
  BlockInt8 block{};
  float largest = 0;
  for (size_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
  if (largest < 0x1p-100f) return block;
  block.scale = largest / 127;
  const float inverse = 127 / largest;
  for (size_t i = 0; i < count; ++i) {
    const float product = values[i] * inverse;
    block.codes[i] = static_cast<int8_t>(std::nearbyint(product));
  }
  return block;
}

TEST(BlockInt8Test, EqualsTheNaiveQuantizationBitByBit) {
  for (size_t count : {0, 1, 17, 255, 256, 257, 512, 1000, 4096}) {
    for (float scale : {1e-38f, 1e-20f, 1.0f, 3e37f}) {
      const auto values = random_floats(count + 1, static_cast<unsigned>(count), scale);
      std::vector<BlockInt8> blocks(num_blocks(count) + 1);
      std::memset(blocks.data(), 0x55, blocks.size() * sizeof(BlockInt8));
      quantize_blocks(values.data() + 1, count, blocks.data(), nullptr);
      for (size_t b = 0; b < num_blocks(count); ++b) {
        const BlockInt8 expected =
            naive_block(values.data() + 1 + b * kSize, std::min(kSize, count - b * kSize));
        ASSERT_EQ(std::memcmp(&blocks[b], &expected, sizeof(expected)), 0)
            << "block " << b << " of " << count << " values times " << scale;
      }
      EXPECT_EQ(blocks.back().codes[0], 0x55) << "wrote past the last block";
    }
  }
}

TEST(BlockInt8Test, ValueIsCodeTimesScalePlusResidualWithinTheBound) {
  const size_t count = 5000;
  const auto values = random_floats(count, 5, 1.0f);
  std::vector<BlockInt8> blocks(num_blocks(count));
  std::vector<float> residual(count), decoded(count + 1, 42.0f);
  quantize_blocks(values.data(), count, blocks.data(), residual.data());
  dequantize_blocks(blocks.data(), decoded.data(), count);
  EXPECT_EQ(decoded[count], 42.0f);
  for (size_t i = 0; i < count; ++i) {
    const BlockInt8& block = blocks[i / kSize];
    ASSERT_EQ(decoded[i], block.scale * static_cast<float>(block.codes[i % kSize]));
    ASSERT_EQ(residual[i], values[i] - decoded[i]);
    ASSERT_LE(std::abs(residual[i]), 127 * block.scale * (1 / 254.0 + 0x1p-22));
  }
}

TEST(BlockInt8Test, WhatIsNotFiniteMakesItsBlockNan) {
  for (float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                    std::numeric_limits<float>::quiet_NaN()}) {
    for (size_t at : {0, 255, 256, 511, 600}) {
      std::vector<float> values(700, 1.0f), residual(700, 42.0f), decoded(700);
      values[at] = bad;
      std::vector<BlockInt8> blocks(num_blocks(values.size()));
      quantize_blocks(values.data(), values.size(), blocks.data(), residual.data());
      dequantize_blocks(blocks.data(), decoded.data(), decoded.size());
      for (size_t i = 0; i < values.size(); ++i) {
        ASSERT_EQ(std::isnan(decoded[i]), i / kSize == at / kSize) << bad << " at " << at;
        ASSERT_EQ(residual[i], 0) << "only ones, and what cannot be kept";
      }
    }
  }
}

TEST(BlockInt8Test, TinyBlocksAreZeroAndStayInTheResidual) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  std::vector<float> values(300, tiny), residual(300), decoded(300, 1.0f);
  std::vector<BlockInt8> blocks(2);
  quantize_blocks(values.data(), values.size(), blocks.data(), residual.data());
  dequantize_blocks(blocks.data(), decoded.data(), decoded.size());
  EXPECT_EQ(decoded, std::vector<float>(300, 0.0f));
  EXPECT_EQ(residual, values);
}

}  // namespace
}  // namespace deepseek_train::collectives
