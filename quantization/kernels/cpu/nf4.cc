#include "deepseek_train/quantization/nf4.h"

#include <algorithm>
#include <cmath>

#include "deepseek_train/core/error.h"

namespace deepseek_train::quantization {

const std::array<float, 16> kNf4Values = {-1.0f,
                                          -0.6961928009986877f,
                                          -0.5250730514526367f,
                                          -0.39491748809814453f,
                                          -0.28444138169288635f,
                                          -0.18477343022823334f,
                                          -0.09105003625154495f,
                                          0.0f,
                                          0.07958029955625534f,
                                          0.16093020141124725f,
                                          0.24611230194568634f,
                                          0.33791524171829224f,
                                          0.44070982933044434f,
                                          0.5626170039176941f,
                                          0.7229568362236023f,
                                          1.0f};

namespace {

constexpr int64_t kScaleBlock = 256;

// Index of the nearest entry of an ascending table; of two equally near the lower one.
template <size_t Size>
uint8_t nearest(const std::array<float, Size>& table, float value) {
  auto above = std::lower_bound(table.begin(), table.end(), value);
  if (above == table.begin()) return 0;
  if (above == table.end()) return static_cast<uint8_t>(Size - 1);
  auto below = above - 1;
  return static_cast<uint8_t>((value - *below <= *above - value ? below : above) - table.begin());
}

// bitsandbytes' signed dynamic map of 8 bits: seven decades, the higher the finer.
std::array<float, 256> make_dynamic_map() {
  std::array<float, 256> map{};
  size_t next = 0;
  for (int decade = 0; decade < 7; ++decade) {
    const int steps = 1 << decade;
    for (int i = 0; i < steps; ++i) {
      const double mean = 0.1 + 0.9 * (i + 0.5) / steps;
      const auto value = static_cast<float>(std::pow(10.0, decade - 6) * mean);
      map[next++] = value;
      map[next++] = -value;
    }
  }
  map[next++] = 0.0f;
  map[next++] = 1.0f;
  std::sort(map.begin(), map.end());
  return map;
}

const std::array<float, 256>& dynamic_map() {
  static const std::array<float, 256> map = make_dynamic_map();
  return map;
}

float absmax_of(std::span<const float> values) {
  float largest = 0;
  for (float value : values) largest = std::max(largest, std::fabs(value));
  return largest;
}

// The two values of every byte, before the scale.
const std::array<std::array<float, 2>, 256>& pairs() {
  static const auto table = [] {
    std::array<std::array<float, 2>, 256> made{};
    for (size_t byte = 0; byte < made.size(); ++byte)
      made[byte] = {kNf4Values[byte >> 4], kNf4Values[byte & 15]};
    return made;
  }();
  return table;
}

void put(float& to, float value) { to = value; }
void put(BFloat16& to, float value) { to = to_bfloat16(value); }

template <typename T>
void dequantize(const uint8_t* packed, const float* absmax, int64_t begin, int64_t end,
                int64_t count, T* output) {
  const auto& table = pairs();
  for (int64_t block = begin; block < end; ++block) {
    const float scale = absmax[block - begin];
    const int64_t stop = std::min(count, (block + 1) * kNf4BlockSize);
    int64_t i = block * kNf4BlockSize;
    for (; i + 1 < stop; i += 2) {
      const auto& pair = table[packed[i / 2]];
      put(output[i], pair[0] * scale);
      put(output[i + 1], pair[1] * scale);
    }
    if (i < stop) put(output[i], table[packed[i / 2]][0] * scale);
  }
}

}  // namespace

void quantize_nf4(std::span<const float> values, std::span<uint8_t> packed,
                  std::span<float> absmax) {
  const auto count = static_cast<int64_t>(values.size());
  DST_CHECK(static_cast<int64_t>(packed.size()) == (count + 1) / 2 &&
                static_cast<int64_t>(absmax.size()) == nf4_blocks(count),
            "quantize_nf4 of ", count, " values got room for ", packed.size(), " bytes and ",
            absmax.size(), " scales, wanted ", (count + 1) / 2, " and ", nf4_blocks(count));
  std::fill(packed.begin(), packed.end(), uint8_t{0});
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(i);
    DST_CHECK(std::isfinite(values[at]), "value ", i, " of a weight is ", values[at],
              ", which no quantized type can hold; look for a damaged checkpoint");
    auto& scale = absmax[static_cast<size_t>(i / kNf4BlockSize)];
    if (i % kNf4BlockSize == 0)
      scale =
          absmax_of(values.subspan(at, static_cast<size_t>(std::min(kNf4BlockSize, count - i))));
    const auto code = nearest(kNf4Values, scale > 0 ? values[at] / scale : 0.0f);
    packed[at / 2] |= static_cast<uint8_t>(i % 2 == 0 ? code << 4 : code);
  }
}

void dequantize_nf4(const uint8_t* packed, const float* absmax, int64_t begin, int64_t end,
                    int64_t count, float* output) {
  dequantize(packed, absmax, begin, end, count, output);
}

void dequantize_nf4(const uint8_t* packed, const float* absmax, int64_t begin, int64_t end,
                    int64_t count, BFloat16* output) {
  dequantize(packed, absmax, begin, end, count, output);
}

Nf4Scales compress_nf4_scales(std::span<const float> absmax) {
  Nf4Scales scales;
  double sum = 0;
  for (float value : absmax) sum += value;
  if (!absmax.empty()) scales.mean = static_cast<float>(sum / static_cast<double>(absmax.size()));
  std::vector<float> centred(absmax.begin(), absmax.end());
  for (float& value : centred) value -= scales.mean;
  for (size_t begin = 0; begin < centred.size(); begin += kScaleBlock) {
    std::span block(centred.data() + begin, std::min<size_t>(kScaleBlock, centred.size() - begin));
    const float largest = absmax_of(block);
    scales.absmax.push_back(largest);
    for (float value : block)
      scales.codes.push_back(nearest(dynamic_map(), largest > 0 ? value / largest : 0.0f));
  }
  return scales;
}

void expand_nf4_scales(const Nf4Scales& scales, int64_t begin, int64_t end, float* output) {
  for (int64_t i = begin; i < end; ++i)
    *output++ = dynamic_map()[scales.codes[static_cast<size_t>(i)]] *
                    scales.absmax[static_cast<size_t>(i / kScaleBlock)] +
                scales.mean;
}

}  // namespace deepseek_train::quantization
