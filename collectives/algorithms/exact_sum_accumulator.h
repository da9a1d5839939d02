// A fixed-point number wide enough for every finite value of a type: sums in it are exact.
// U. Kulisch, "Computer Arithmetic and Validity" (2008), chapter 8.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace deepseek_train::collectives {

// Words of 32 bits kept in 64, so that 2^31 values can be added before a carry must be passed on.
// The unit of word 0 is the smallest subnormal number. Not thread-safe.
template <typename T>
class ExactSumAccumulator {
  using Limits = std::numeric_limits<T>;
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  static constexpr int kFractionBits = Limits::digits - 1;
  static constexpr Bits kFractionMask = (Bits{1} << kFractionBits) - 1;
  static constexpr int kExponentMask = 2 * Limits::max_exponent - 1;
  static constexpr int kUnitExponent = Limits::min_exponent - Limits::digits;  // -149, -1074
  // The largest finite value has max_exponent - kUnitExponent bits; 32 more for carries.
  static constexpr int kNumWords = (Limits::max_exponent - kUnitExponent + 32 + 31) / 32;

 public:
  void add(T value) {
    const Bits bits = std::bit_cast<Bits>(value);
    const int exponent = static_cast<int>(bits >> kFractionBits) & kExponentMask;
    const bool is_negative = std::signbit(value);
    is_all_negative_zero_ &= value == 0 && is_negative;
    is_empty_ = false;
    if (exponent == kExponentMask) return add_special(value);
    const uint64_t fraction = bits & kFractionMask;
    const uint64_t significand = exponent ? fraction | (uint64_t{1} << kFractionBits) : fraction;
    add_shifted(significand, std::max(exponent - 1, 0), is_negative);
  }

  // Nearest, ties to even. Leaves the accumulator normalised; more may be added.
  T round() {
    if (has_nan_ || (has_infinity_[0] && has_infinity_[1])) return Limits::quiet_NaN();
    if (has_infinity_[0]) return Limits::infinity();
    if (has_infinity_[1]) return -Limits::infinity();
    if (is_all_negative_zero_ && !is_empty_) return T{-0.0};
    propagate_carries();
    const bool is_negative = words_[kNumWords - 1] < 0;
    if (is_negative) negate();
    const T magnitude = round_magnitude();
    if (is_negative) negate();
    return is_negative ? -magnitude : magnitude;
  }

 private:
  void add_special(T value) {
    if (std::isnan(value))
      has_nan_ = true;
    else
      has_infinity_[std::signbit(value)] = true;
  }

  void add_shifted(uint64_t significand, int shift, bool is_negative) {
    const int word = shift / 32;
    const auto shifted = static_cast<unsigned __int128>(significand) << (shift % 32);
    for (int i = 0; i < 3 && word + i < kNumWords; ++i) {
      const auto part = static_cast<int64_t>(static_cast<uint32_t>(shifted >> (32 * i)));
      words_[word + i] += is_negative ? -part : part;
    }
    if (++num_uncarried_ == 1u << 30) propagate_carries();
  }

  // Every word but the last to [0, 2^32): two's complement with the sign in the last.
  void propagate_carries() {
    for (int i = 0; i + 1 < kNumWords; ++i) {
      words_[i + 1] += words_[i] >> 32;  // rounds down
      words_[i] &= 0xffffffff;
    }
    num_uncarried_ = 0;
  }

  void negate() {
    for (auto& word : words_) word = -word;
    propagate_carries();
  }

  uint64_t bit_range(int begin, int num_bits) const {
    const int word = begin / 32;
    unsigned __int128 bits = 0;
    for (int i = 2; i >= 0; --i)
      bits = bits << 32 | (word + i < kNumWords ? static_cast<uint64_t>(words_[word + i]) : 0);
    return static_cast<uint64_t>(bits >> (begin % 32)) & ((uint64_t{1} << num_bits) - 1);
  }

  bool has_bit_below(int end) const {
    for (int i = 0; i < end / 32; ++i) {
      if (words_[i] != 0) return true;
    }
    return end % 32 != 0 && bit_range(end / 32 * 32, end % 32) != 0;
  }

  T round_magnitude() const {
    int top = kNumWords - 1;
    while (top > 0 && words_[top] == 0) --top;
    const int num_bits = 32 * top + std::bit_width(static_cast<uint64_t>(words_[top]));
    const int dropped = std::max(num_bits - Limits::digits, 0);
    uint64_t significand = bit_range(dropped, Limits::digits);
    if (dropped > 0 && bit_range(dropped - 1, 1) && (significand % 2 || has_bit_below(dropped - 1)))
      ++significand;
    return std::ldexp(static_cast<T>(significand), dropped + kUnitExponent);
  }

  std::array<int64_t, kNumWords> words_ = {};
  uint32_t num_uncarried_ = 0;
  bool has_nan_ = false;
  bool has_infinity_[2] = {};  // positive, negative
  bool is_all_negative_zero_ = true;
  bool is_empty_ = true;
};

}  // namespace deepseek_train::collectives
