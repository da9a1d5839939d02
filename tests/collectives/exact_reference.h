// Long arithmetic, bit by bit: what a correctly rounded sum must be.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace deepseek_train::collectives::testing {

// A natural number, one bit an element; bit 0 is worth 2^-1100.
class LongNumber {
 public:
  static constexpr int kUnitExponent = -1100;
  LongNumber() : bits_(2300, 0) {}

  void add(double magnitude) {
    int exponent = 0;
    auto significand = static_cast<uint64_t>(std::ldexp(std::frexp(magnitude, &exponent), 53));
    for (int at = exponent - 53 - kUnitExponent; significand; ++at, significand >>= 1) {
      if (significand & 1) add_bit(at);
    }
  }
  bool is_less(const LongNumber& other) const {
    for (size_t i = bits_.size(); i-- > 0;) {
      if (bits_[i] != other.bits_[i]) return bits_[i] < other.bits_[i];
    }
    return false;
  }
  // `other` is not greater.
  LongNumber minus(const LongNumber& other) const {
    LongNumber difference;
    int borrow = 0;
    for (size_t i = 0; i < bits_.size(); ++i) {
      const int bit = bits_[i] - other.bits_[i] - borrow;
      borrow = bit < 0;
      difference.bits_[i] = static_cast<char>(bit & 1);
    }
    return difference;
  }

  template <typename T>
  T rounded() const {
    using Limits = std::numeric_limits<T>;
    int top = static_cast<int>(bits_.size()) - 1;
    while (top >= 0 && !bits_[top]) --top;
    // The last bit kept: by precision, or by the smallest subnormal.
    const int smallest = Limits::min_exponent - Limits::digits - kUnitExponent;
    const int last = std::max(top - Limits::digits + 1, smallest);
    T value = 0;
    for (int i = top; i >= last; --i) value = 2 * value + bits_[i];
    bool is_past_half = false;
    for (int i = 0; i < last - 1; ++i) is_past_half |= bits_[i] != 0;
    if (bits_[last - 1] && (is_past_half || bits_[last])) value += 1;
    return std::ldexp(value, last + kUnitExponent);
  }

 private:
  void add_bit(int at) {
    for (; bits_[at]; ++at) bits_[at] = 0;
    bits_[at] = 1;
  }
  std::vector<char> bits_;
};

template <typename T>
T reference_sum(const std::vector<T>& values) {
  LongNumber positive, negative;
  bool has_nan = false, is_all_negative_zero = !values.empty();
  bool has_infinity[2] = {};
  for (T value : values) {
    has_nan |= std::isnan(value);
    if (std::isinf(value)) has_infinity[std::signbit(value)] = true;
    is_all_negative_zero &= value == 0 && std::signbit(value);
    if (std::isfinite(value)) (std::signbit(value) ? negative : positive).add(std::abs(value));
  }
  const T infinity = std::numeric_limits<T>::infinity();
  if (has_nan || (has_infinity[0] && has_infinity[1])) return std::numeric_limits<T>::quiet_NaN();
  if (has_infinity[0]) return infinity;
  if (has_infinity[1]) return -infinity;
  if (is_all_negative_zero) return T{-0.0};
  return positive.is_less(negative) ? -negative.minus(positive).rounded<T>()
                                    : positive.minus(negative).rounded<T>();
}

// Values that are hard to add: how wild is `spread`, the range of binary exponents.
template <typename T>
T hard_value(std::mt19937& generator, int spread) {
  using Limits = std::numeric_limits<T>;
  const int exponent = static_cast<int>(generator() % (2 * spread + 1)) - spread;
  const T significand = std::ldexp(static_cast<T>(generator()), -31) +
                        std::ldexp(static_cast<T>(generator()), 1 - Limits::digits);
  return std::ldexp(generator() % 2 ? significand : -significand, exponent);
}

// `count` values of which many nearly cancel.
template <typename T>
std::vector<T> hard_values(std::mt19937& generator, size_t count, int spread) {
  std::vector<T> values;
  while (values.size() < count) {
    const T value = hard_value<T>(generator, spread);
    values.push_back(value);
    if (generator() % 2 && values.size() < count)
      values.push_back(generator() % 2 ? -value : -std::nextafter(value, T{0}));
  }
  std::shuffle(values.begin(), values.end(), generator);
  return values;
}

}  // namespace deepseek_train::collectives::testing
