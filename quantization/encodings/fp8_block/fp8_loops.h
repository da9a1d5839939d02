// The vector loops, for any width: included by the sources of one instruction set each, after its
// target pragma. `Lanes` brings the registers; what is left at the end goes to the portable loop.
#include "quantization/encodings/fp8_block/fp8_kernels.h"

namespace deepseek_train::quantization {
namespace {

template <typename Lanes, typename Weight>
void decode_lanes(const Float8E4M3* values, int64_t count, float scale, Weight* weight,
                  void (*rest)(const Float8E4M3*, int64_t, float, Weight*)) {
  const auto scales = Lanes::broadcast(scale);
  int64_t i = 0;
  for (; i + Lanes::kCount <= count; i += Lanes::kCount)
    Lanes::store(Lanes::multiply(Lanes::load(values + i), scales), weight + i);
  rest(values + i, count - i, scale, weight + i);
}

template <typename Lanes, typename Weight>
uint32_t largest_bits_lanes(const Weight* weight, int64_t count,
                            uint32_t (*rest)(const Weight*, int64_t)) {
  auto largest = Lanes::zero_bits();
  int64_t i = 0;
  for (; i + Lanes::kCount <= count; i += Lanes::kCount)
    largest = Lanes::larger(largest, Lanes::magnitude_bits(Lanes::load(weight + i)));
  const uint32_t last = rest(weight + i, count - i);
  const uint32_t found = Lanes::largest_of(largest);
  return found > last ? found : last;
}

template <typename Lanes, typename Weight>
void encode_lanes(const Weight* weight, int64_t count, float scale, Float8E4M3* values,
                  void (*rest)(const Weight*, int64_t, float, Float8E4M3*)) {
  const auto scales = Lanes::broadcast(scale);
  int64_t i = 0;
  for (; i + Lanes::kCount <= count; i += Lanes::kCount)
    Lanes::store(Lanes::divide(Lanes::load(weight + i), scales), values + i);
  rest(weight + i, count - i, scale, values + i);
}

template <typename Lanes>
constexpr Fp8Kernels fp8_kernels_of(SimdLevel level) {
  return {
      level,
      [](const Float8E4M3* values, int64_t count, float scale, BFloat16* weight) {
        decode_lanes<Lanes>(values, count, scale, weight, portable_fp8_kernels().decode_bf16);
      },
      [](const Float8E4M3* values, int64_t count, float scale, float* weight) {
        decode_lanes<Lanes>(values, count, scale, weight, portable_fp8_kernels().decode_f32);
      },
      [](const BFloat16* weight, int64_t count) {
        return largest_bits_lanes<Lanes>(weight, count, portable_fp8_kernels().largest_bits_bf16);
      },
      [](const float* weight, int64_t count) {
        return largest_bits_lanes<Lanes>(weight, count, portable_fp8_kernels().largest_bits_f32);
      },
      [](const BFloat16* weight, int64_t count, float scale, Float8E4M3* values) {
        encode_lanes<Lanes>(weight, count, scale, values, portable_fp8_kernels().encode_bf16);
      },
      [](const float* weight, int64_t count, float scale, Float8E4M3* values) {
        encode_lanes<Lanes>(weight, count, scale, values, portable_fp8_kernels().encode_f32);
      }};
}

}  // namespace
}  // namespace deepseek_train::quantization
