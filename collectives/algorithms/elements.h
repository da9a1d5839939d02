// Element types as the reduction loops see them: how a value is stored, and in which type it is
// summed.
//
// Everything here is branch-free and always inlined, so that one loop compiles to a vector loop for
// each instruction set.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "deepseek_train/core/dtype.h"

namespace deepseek_train::collectives {

// Float32, float64, int32, int64: summed in their own type; integers wrap.
template <typename T>
struct PlainElement {
  using Stored = T;
  using Accumulator = T;
  [[gnu::always_inline]] static T load(T value) { return value; }
  [[gnu::always_inline]] static T store(T value) { return value; }
};

// Int8 and uint8: in 32 bits, so that an average of many is right; a sum that does not fit wraps.
template <typename T>
struct NarrowElement {
  using Stored = T;
  using Accumulator = int32_t;
  [[gnu::always_inline]] static int32_t load(T value) { return value; }
  [[gnu::always_inline]] static T store(int32_t value) { return static_cast<T>(value); }
};

struct BFloat16Element {
  using Stored = uint16_t;
  using Accumulator = float;
  [[gnu::always_inline]] static float load(uint16_t bits) {
    return std::bit_cast<float>(uint32_t{bits} << 16);
  }
  // As to_bfloat16 of core.
  [[gnu::always_inline]] static uint16_t store(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t quiet_nan = (bits >> 16) | 0x40u;
    return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded);
  }
};

struct Float16Element {
  using Stored = uint16_t;
  using Accumulator = float;
  // The exponent is moved by a multiplication, which also normalises subnormals; infinities and NaN
  // are put back after it.
  [[gnu::always_inline]] static float load(uint16_t half) {
    const uint32_t magnitude = (uint32_t{half} & 0x7fffu) << 13;
    const uint32_t scaled = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
    const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
    return std::bit_cast<float>(scaled | special | ((uint32_t{half} & 0x8000u) << 16));
  }
  // As to_float16 of core: the three cases side by side, then chosen.
  [[gnu::always_inline]] static uint16_t store(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
    const uint32_t subnormal =
        std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    const uint32_t huge = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    const uint32_t chosen = magnitude >= 0x477ff000u ? huge : finite;
    return static_cast<uint16_t>(chosen | ((bits >> 16) & 0x8000u));
  }
};

}  // namespace deepseek_train::collectives
