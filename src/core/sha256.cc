#include "deepseek_train/core/sha256.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "src/core/sha256_blocks.h"

namespace deepseek_train {
namespace {

uint32_t load_big_endian(const std::byte* bytes) {
  uint32_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return __builtin_bswap32(value);
}

void hash_block(std::array<uint32_t, 8>& state, const std::byte* block) {
  std::array<uint32_t, 64> w;
  for (size_t i = 0; i < 16; ++i) w[i] = load_big_endian(block + 4 * i);
  for (size_t i = 16; i < 64; ++i) {
    uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
    uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (size_t i = 0; i < 64; ++i) {
    uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
    uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + kSha256RoundConstants[i] + w[i];
    uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
    uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  std::array<uint32_t, 8> worked = {a, b, c, d, e, f, g, h};
  for (size_t i = 0; i < 8; ++i) state[i] += worked[i];
}

void hash_blocks(std::array<uint32_t, 8>& state, const std::byte* blocks, size_t num_blocks) {
  static const Sha256HashBlocks instructions = find_sha256_instructions();
  (instructions ? instructions : sha256_hash_blocks_portable)(state, blocks, num_blocks);
}

}  // namespace

void sha256_hash_blocks_portable(std::array<uint32_t, 8>& state, const std::byte* blocks,
                                 size_t num_blocks) {
  for (size_t i = 0; i < num_blocks; ++i) hash_block(state, blocks + kSha256BlockBytes * i);
}

Sha256::Sha256()
    : state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19} {}

void Sha256::update(std::span<const std::byte> bytes) {
  num_bytes_ += bytes.size();
  while (!bytes.empty()) {
    if (num_pending_ == 0 && bytes.size() >= kSha256BlockBytes) {
      const size_t num_blocks = bytes.size() / kSha256BlockBytes;
      hash_blocks(state_, bytes.data(), num_blocks);
      bytes = bytes.subspan(num_blocks * kSha256BlockBytes);
      continue;
    }
    size_t taken = std::min(bytes.size(), kSha256BlockBytes - num_pending_);
    std::memcpy(pending_.data() + num_pending_, bytes.data(), taken);
    num_pending_ += taken;
    bytes = bytes.subspan(taken);
    if (num_pending_ == kSha256BlockBytes) {
      hash_blocks(state_, pending_.data(), 1);
      num_pending_ = 0;
    }
  }
}

std::string Sha256::finish_hex() {
  uint64_t num_bits = __builtin_bswap64(num_bytes_ * 8);
  std::array<std::byte, 72> padding{};
  padding[0] = std::byte{0x80};
  size_t num_zeros = (119 - num_pending_) % 64;
  std::memcpy(padding.data() + 1 + num_zeros, &num_bits, 8);
  update(std::span(padding.data(), 1 + num_zeros + 8));
  std::string hex;
  for (uint32_t word : state_)
    for (int shift = 28; shift >= 0; shift -= 4) hex += "0123456789abcdef"[(word >> shift) & 15];
  return hex;
}

std::string sha256_hex(std::string_view text) {
  Sha256 hash;
  hash.update(text);
  return hash.finish_hex();
}

}  // namespace deepseek_train
