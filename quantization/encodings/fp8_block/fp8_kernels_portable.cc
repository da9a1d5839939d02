#include <algorithm>
#include <bit>

#include "quantization/encodings/fp8_block/fp8_kernels.h"

namespace deepseek_train::quantization {
namespace {

float load(float value) { return value; }
float load(BFloat16 value) { return to_float(value); }
void store(float value, float& place) { place = value; }
void store(float value, BFloat16& place) { place = to_bfloat16(value); }

template <typename Weight>
void decode(const Float8E4M3* values, int64_t count, float scale, Weight* weight) {
  for (int64_t i = 0; i < count; ++i) store(to_float(values[i]) * scale, weight[i]);
}

template <typename Weight>
uint32_t largest_bits(const Weight* weight, int64_t count) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i)
    largest = std::max(largest, std::bit_cast<uint32_t>(load(weight[i])) & 0x7fffffffu);
  return largest;
}

template <typename Weight>
void encode(const Weight* weight, int64_t count, float scale, Float8E4M3* values) {
  for (int64_t i = 0; i < count; ++i) values[i] = to_float8_e4m3(load(weight[i]) / scale);
}

}  // namespace

const Fp8Kernels& portable_fp8_kernels() {
  static constexpr Fp8Kernels kKernels = {
      SimdLevel::kPortable, decode<BFloat16>, decode<float>, largest_bits<BFloat16>,
      largest_bits<float>,  encode<BFloat16>, encode<float>};
  return kKernels;
}

}  // namespace deepseek_train::quantization
