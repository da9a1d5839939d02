#include "deepseek_train/data/permutation.h"

#include <cmath>

#include "deepseek_train/core/error.h"

namespace deepseek_train::data {
namespace {

// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): every input bit reaches every output
// bit.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// A 64-bit hash to [0, bound) by multiplication, which is cheaper than a remainder.
uint64_t reduce(uint64_t hash, uint64_t bound) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(hash) * bound) >> 64);
}

uint64_t add_modulo(uint64_t x, uint64_t summand, uint64_t modulus) {
  x += summand;
  return x >= modulus ? x - modulus : x;
}

uint64_t ceiling_of_root(uint64_t n) {
  auto root = static_cast<uint64_t>(std::sqrt(static_cast<double>(n)));
  while (root * root < n) ++root;
  while (root > 1 && (root - 1) * (root - 1) >= n) --root;
  return root;
}

}  // namespace

Permutation::Permutation(int64_t size, uint64_t seed, uint64_t epoch) {
  DST_CHECK(size >= 1 && size <= int64_t{1} << 62, "a permutation of ", size,
            " elements asked for, wanted 1 to 2^62");
  size_ = static_cast<uint64_t>(size);
  // An even width: a row's rotation by one is then an odd permutation, without which half of all
  // orders of few samples could not occur.
  width_ = ceiling_of_root(size_);
  width_ += width_ % 2;
  height_ = (size_ + width_ - 1) / width_;
  // Measured over seeds: 10 rounds leave a bias on fewer than 16 samples, 20 on none; from some 30
  // on, 10 show none.
  num_rounds_ = size_ < 65536 ? kMostRounds : kMostRounds / 2;
  // Seed and epoch pass through mix one after the other, so that (1, 2) and (2, 1) share nothing.
  uint64_t state = mix(mix(seed + 0x9e3779b97f4a7c15u) + epoch);
  for (uint64_t& key : round_keys_) key = mix(state += 0x9e3779b97f4a7c15u);
}

uint64_t Permutation::encrypt(uint64_t cell) const {
  uint64_t column = cell % width_;
  uint64_t row = cell / width_;
  for (int round = 0; round < num_rounds_; round += 2) {
    column = add_modulo(column, reduce(mix(row + round_keys_[round]), width_), width_);
    row = add_modulo(row, reduce(mix(column + round_keys_[round + 1]), height_), height_);
  }
  return row * width_ + column;
}

int64_t Permutation::operator()(int64_t k) const {
  // Cells beyond size_ are fewer than width_, and each is followed until its cycle comes back
  // inside.
  uint64_t cell = encrypt(static_cast<uint64_t>(k));
  while (cell >= size_) cell = encrypt(cell);
  return static_cast<int64_t>(cell);
}

}  // namespace deepseek_train::data
