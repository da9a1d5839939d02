#include "deepseek_train/quantization/nf4.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "deepseek_train/core/error.h"

namespace deepseek_train::quantization {
namespace {

std::vector<float> random_values(int64_t count) {
  std::mt19937 generator(7);
  std::normal_distribution<float> normal(0, 0.05f);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

struct Packed {
  std::vector<uint8_t> bytes;
  std::vector<float> absmax;
};

Packed pack(const std::vector<float>& values) {
  const auto count = static_cast<int64_t>(values.size());
  Packed packed{std::vector<uint8_t>(static_cast<size_t>((count + 1) / 2)),
                std::vector<float>(static_cast<size_t>(nf4_blocks(count)))};
  quantize_nf4(values, packed.bytes, packed.absmax);
  return packed;
}

// One value after another, by trying all codes.
float naive(const std::vector<float>& values, size_t i) {
  const size_t begin = i / 64 * 64, end = std::min(values.size(), begin + 64);
  float absmax = 0;
  for (size_t k = begin; k < end; ++k) absmax = std::max(absmax, std::fabs(values[k]));
  float best = kNf4Values[0];
  for (float code : kNf4Values)
    if (std::fabs(code * absmax - values[i]) < std::fabs(best * absmax - values[i])) best = code;
  return best * absmax;
}

TEST(Nf4Test, EveryValueTakesItsNearestCode) {
  for (int64_t count : {0, 1, 2, 63, 64, 65, 200, 4097}) {
    const auto values = random_values(count);
    const auto packed = pack(values);
    std::vector<float> found(values.size());
    dequantize_nf4(packed.bytes.data(), packed.absmax.data(), 0, nf4_blocks(count), count,
                   found.data());
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(found[i], naive(values, i), 1e-7) << i;
  }
}

TEST(Nf4Test, TheFirstValueOfAByteIsItsHighHalf) {
  const auto packed = pack({1.0f, -1.0f, 0.0f, 0.5626170039176941f});
  EXPECT_EQ(packed.bytes, (std::vector<uint8_t>{0xf0, 0x7d}));
  EXPECT_EQ(packed.absmax, std::vector<float>{1.0f});
}

TEST(Nf4Test, APartIsWrittenToItsPlaceAndBfloat16IsRoundedOnce) {
  const int64_t count = 1000;
  const auto packed = pack(random_values(count));
  std::vector<float> whole(count);
  dequantize_nf4(packed.bytes.data(), packed.absmax.data(), 0, nf4_blocks(count), count,
                 whole.data());
  std::vector<BFloat16> part(count, BFloat16{0xffff});
  dequantize_nf4(packed.bytes.data(), packed.absmax.data() + 3, 3, 5, count, part.data());
  for (size_t i = 0; i < part.size(); ++i)
    EXPECT_EQ(part[i].bits, i >= 3 * 64 && i < 5 * 64 ? to_bfloat16(whole[i]).bits : 0xffff) << i;
}

TEST(Nf4Test, BlocksOfZerosStayZeroAndBadValuesAreNamed) {
  const auto packed = pack(std::vector<float>(128, 0.0f));
  std::vector<float> found(128, 1.0f);
  dequantize_nf4(packed.bytes.data(), packed.absmax.data(), 0, 2, 128, found.data());
  EXPECT_EQ(found, std::vector<float>(128, 0.0f));
  std::vector<float> bad(10, 1.0f);
  bad[7] = NAN;
  try {
    pack(bad);
    FAIL() << "NaN was packed";
  } catch (const InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("value 7"), std::string::npos);
  }
}

TEST(Nf4Test, ScalesInEightBitsAreNear) {
  std::vector<float> absmax = random_values(700);
  for (float& scale : absmax) scale = std::fabs(scale) + 0.1f;
  const auto compressed = compress_nf4_scales(absmax);
  EXPECT_EQ(compressed.codes.size(), 700u);
  EXPECT_EQ(compressed.absmax.size(), 3u);
  std::vector<float> found(300);
  expand_nf4_scales(compressed, 300, 600, found.data());
  for (size_t i = 0; i < found.size(); ++i) {
    const float largest = compressed.absmax[(i + 300) / 256];
    // The widest gap of the dynamic map is 0.9 / 64, in its highest decade.
    EXPECT_NEAR(found[i], absmax[i + 300], largest * 0.9 / 64 / 2 + 1e-6) << i;
  }
}

}  // namespace
}  // namespace deepseek_train::quantization
