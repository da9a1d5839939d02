// Element types, with their size and their names in the file formats we speak.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace deepseek_train {

enum class DType : uint8_t {
  kFloat32,
  kFloat64,
  kBFloat16,
  kFloat16,
  kInt64,
  kInt32,
  kInt8,
  kUInt8,
  kBool,
  kFloat8E4M3,
  kFloat8E5M2,
  kFloat8E8M0  // a power of two, as a scale: 2^(byte - 127); 255 is NaN
};

// Bytes of one element.
size_t size_bytes(DType dtype);
// "float32", "bf16", ...: for people.
std::string_view name_of(DType dtype);

// A bf16 or fp16 value as stored: its 16 bits.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

inline float to_float(BFloat16 value) { return std::bit_cast<float>(uint32_t{value.bits} << 16); }

// Rounds to nearest, ties to even; NaN stays NaN (quiet).
inline BFloat16 to_bfloat16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

float to_float(Float16 value);
// Rounds to nearest, ties to even; overflow gives infinity.
Float16 to_float16(float value);

}  // namespace deepseek_train
