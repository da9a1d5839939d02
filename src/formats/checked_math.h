// Arithmetic on numbers read from a file, which may be anything: overflow is a value, not a
// surprise.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace deepseek_train::formats {

inline std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

inline std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t product;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

// Product of the shape and of `factor`; nothing if a dimension is negative or it passes 2^63 - 1.
inline std::optional<uint64_t> checked_product(std::span<const int64_t> shape, uint64_t factor) {
  std::optional<uint64_t> product = factor;
  for (int64_t dimension : shape) {
    if (dimension < 0) return std::nullopt;
    product = checked_mul(*product, static_cast<uint64_t>(dimension));
    if (!product) return std::nullopt;
  }
  if (*product > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return product;
}

}  // namespace deepseek_train::formats
