// The two 8-bit floats of FP8 checkpoints, as stored. Source: OCP 8-bit Floating Point
// Specification 1.0 (E4M3), OCP Microscaling Formats 1.0 (E8M0).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace deepseek_train::quantization {

// Sign, 4 bits of exponent (bias 7), 3 of mantissa. No infinities; 0x7f and 0xff are NaN.
struct Float8E4M3 {
  uint8_t bits;
};
inline constexpr float kLargestFloat8E4M3 = 448.0f;

// 2^(bits - 127); 0xff is NaN. Has neither zero nor sign: a scale.
struct Float8E8M0 {
  uint8_t bits;
};

inline bool is_nan(Float8E4M3 value) { return (value.bits & 0x7f) == 0x7f; }

// Exact.
inline float to_float(Float8E4M3 value) {
  const uint32_t sign = uint32_t{value.bits & 0x80u} << 24;
  const uint32_t exponent = (value.bits >> 3) & 15u, mantissa = value.bits & 7u;
  if (is_nan(value)) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-9f;
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 120) << 23) | (mantissa << 20));
}

// Rounds to nearest, ties to even, and saturates: what is larger than 448, infinity included,
// becomes 448. NaN stays NaN.
inline Float8E4M3 to_float8_e4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>((bits >> 24) & 0x80u);
  if (std::isnan(value)) return {static_cast<uint8_t>(sign | 0x7f)};
  const float magnitude = std::fmin(std::fabs(value), kLargestFloat8E4M3);
  // Subnormal: adding 2^14 leaves 2^-9 as the last bit, so the addition itself rounds.
  if (magnitude < 0x1p-6f)
    return {
        static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(magnitude + 0x1p14f) - 0x46800000u))};
  const uint32_t wide = std::bit_cast<uint32_t>(magnitude);
  const uint32_t rounded = (wide + 0x7ffffu + ((wide >> 20) & 1u)) >> 20;
  return {static_cast<uint8_t>(sign | (rounded - (120u << 3)))};
}

// Exact, NaN included; 2^-127 is a subnormal float.
inline float to_float(Float8E8M0 value) {
  if (value.bits == 0xff) return std::bit_cast<float>(0x7fc00000u);
  return value.bits == 0 ? 0x1p-127f : std::bit_cast<float>(uint32_t{value.bits} << 23);
}

// The smallest power of two that is not smaller than `scale`, which is positive and finite: what
// DeepSeek calls ue8m0.
inline float round_up_to_power_of_two(float scale) {
  const uint32_t bits = std::bit_cast<uint32_t>(scale);
  if (bits < 0x00800000u) return std::bit_cast<float>(std::bit_ceil(bits));
  return std::bit_cast<float>((bits + 0x7fffffu) & 0x7f800000u);
}

}  // namespace deepseek_train::quantization
