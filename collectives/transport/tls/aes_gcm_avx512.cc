// AES-GCM (NIST SP 800-38D) with VAES and VPCLMULQDQ: 32 blocks at a time, so that their keystream
// and their hash keep both vector ports busy. No branch and no address depends on a key or on data.
//
// GHASH keeps blocks byte-reversed. A product of two such numbers comes out shifted by one bit,
// which the powers of H make up for by having been multiplied by x. The products of 32 blocks with
// H^32 ... H^1 are added up first and reduced once, by Montgomery's method (Gueron and Kounavis,
// "Intel carry-less multiplication instruction and its usage for computing the GCM mode").
#include <immintrin.h>
#include <openssl/crypto.h>

#include <cstdint>
#include <cstring>

#include "collectives/transport/tls/record_cipher.h"

namespace deepseek_train::collectives {
namespace {

#define DST_TARGET "aes,pclmul,avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq"
#define DST_KERNEL [[gnu::target(DST_TARGET)]]
#define DST_INLINE [[gnu::target(DST_TARGET), gnu::always_inline]] inline

constexpr size_t kBlock = 16;
constexpr size_t kVector = 64;
constexpr size_t kNumVectors = 8;
constexpr size_t kChunk = kNumVectors * kVector;
// For a whole chunk and the block of lengths, in whole vectors.
constexpr size_t kNumPowers = kChunk / kBlock + 4;

struct GcmKey {
  alignas(kVector) std::byte round_keys[15][kVector];     // each four times
  alignas(kVector) std::byte powers[kNumPowers][kBlock];  // H^kNumPowers first, H^1 last
};

DST_INLINE __m512i load(const std::byte* from) { return _mm512_loadu_si512(from); }
DST_INLINE __m128i load_block(const std::byte* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}
DST_INLINE void store_block(std::byte* to, __m128i block) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), block);
}

DST_INLINE __m128i reverse(__m128i block) {
  return _mm_shuffle_epi8(block,
                          _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}
DST_INLINE __m512i reverse(__m512i blocks) {
  return _mm512_shuffle_epi8(blocks, _mm512_broadcast_i32x4(_mm_set_epi8(
                                         0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
}

// ---- AES's key schedule (FIPS 197)

// Every word xored with all words before it.
DST_INLINE __m128i prefix_xor(__m128i key) {
  key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
  return _mm_xor_si128(key, _mm_slli_si128(key, 8));
}
template <int kConstant>
DST_INLINE __m128i rotated_word(__m128i key) {
  return _mm_shuffle_epi32(_mm_aeskeygenassist_si128(key, kConstant), 0xff);
}
DST_INLINE __m128i plain_word(__m128i key) {
  return _mm_shuffle_epi32(_mm_aeskeygenassist_si128(key, 0), 0xaa);
}
DST_INLINE void store_round_key(GcmKey& key, int round, __m128i value) {
  _mm512_store_si512(key.round_keys[round], _mm512_broadcast_i32x4(value));
}

template <int kRound, int kConstant>
DST_INLINE __m128i next_128(GcmKey& key, __m128i last) {
  const __m128i next = _mm_xor_si128(prefix_xor(last), rotated_word<kConstant>(last));
  store_round_key(key, kRound, next);
  return next;
}

DST_KERNEL void expand_128(GcmKey& key, const std::byte* secret) {
  __m128i last = load_block(secret);
  store_round_key(key, 0, last);
  last = next_128<1, 0x01>(key, last);
  last = next_128<2, 0x02>(key, last);
  last = next_128<3, 0x04>(key, last);
  last = next_128<4, 0x08>(key, last);
  last = next_128<5, 0x10>(key, last);
  last = next_128<6, 0x20>(key, last);
  last = next_128<7, 0x40>(key, last);
  last = next_128<8, 0x80>(key, last);
  last = next_128<9, 0x1b>(key, last);
  next_128<10, 0x36>(key, last);
}

template <int kRound, int kConstant>
DST_INLINE void next_256(GcmKey& key, __m128i& even, __m128i& odd) {
  even = _mm_xor_si128(prefix_xor(even), rotated_word<kConstant>(odd));
  store_round_key(key, kRound, even);
  if constexpr (kRound < 14) {
    odd = _mm_xor_si128(prefix_xor(odd), plain_word(even));
    store_round_key(key, kRound + 1, odd);
  }
}

DST_KERNEL void expand_256(GcmKey& key, const std::byte* secret) {
  __m128i even = load_block(secret), odd = load_block(secret + kBlock);
  store_round_key(key, 0, even);
  store_round_key(key, 1, odd);
  next_256<2, 0x01>(key, even, odd);
  next_256<4, 0x02>(key, even, odd);
  next_256<6, 0x04>(key, even, odd);
  next_256<8, 0x08>(key, even, odd);
  next_256<10, 0x10>(key, even, odd);
  next_256<12, 0x20>(key, even, odd);
  next_256<14, 0x40>(key, even, odd);
}

// ---- AES

template <int kRounds>
DST_INLINE __m128i encrypt_block(const GcmKey& key, __m128i block) {
  block = _mm_xor_si128(block, load_block(key.round_keys[0]));
  for (int round = 1; round < kRounds; ++round)
    block = _mm_aesenc_si128(block, load_block(key.round_keys[round]));
  return _mm_aesenclast_si128(block, load_block(key.round_keys[kRounds]));
}

// The keystream of `kCount` vectors from `counter` on, which moves on.
template <int kRounds, size_t kCount>
DST_INLINE void make_keystream(const GcmKey& key, __m512i& counter, __m512i (&stream)[kCount]) {
  const __m512i step = _mm512_broadcast_i32x4(_mm_set_epi32(0, 0, 0, 4));
  const __m512i first = load(key.round_keys[0]);
  for (auto& vector : stream) {
    vector = _mm512_xor_si512(reverse(counter), first);
    counter = _mm512_add_epi32(counter, step);
  }
#pragma GCC unroll 14
  for (int round = 1; round < kRounds; ++round) {
    const __m512i round_key = load(key.round_keys[round]);
    for (auto& vector : stream) vector = _mm512_aesenc_epi128(vector, round_key);
  }
  const __m512i last = load(key.round_keys[kRounds]);
  for (auto& vector : stream) vector = _mm512_aesenclast_epi128(vector, last);
}

// ---- GHASH

// Sums of products, not yet reduced, in four lanes.
struct Products {
  __m512i low;
  __m512i middle;
  __m512i high;
};

DST_INLINE void add_product(Products& sum, __m512i blocks, __m512i powers) {
  constexpr int kXor3 = 0x96;
  sum.low = _mm512_xor_si512(sum.low, _mm512_clmulepi64_epi128(blocks, powers, 0x00));
  sum.middle = _mm512_ternarylogic_epi64(sum.middle, _mm512_clmulepi64_epi128(blocks, powers, 0x01),
                                         _mm512_clmulepi64_epi128(blocks, powers, 0x10), kXor3);
  sum.high = _mm512_xor_si512(sum.high, _mm512_clmulepi64_epi128(blocks, powers, 0x11));
}

// All lanes' sum, in lane 0 of a vector of zeros.
DST_INLINE __m512i reduce(const Products& sum) {
  constexpr int kXor3 = 0x96, kSwapHalves = 0x4e;
  // x^127 + x^126 + x^121, the field's polynomial without its ends.
  const __m512i polynomial = _mm512_set1_epi64(static_cast<long long>(0xc200000000000000ULL));
  const __m512i middle = _mm512_ternarylogic_epi64(
      sum.middle, _mm512_shuffle_epi32(sum.low, static_cast<_MM_PERM_ENUM>(kSwapHalves)),
      _mm512_clmulepi64_epi128(polynomial, sum.low, 0x00), kXor3);
  const __m512i lanes = _mm512_ternarylogic_epi64(
      sum.high, _mm512_shuffle_epi32(middle, static_cast<_MM_PERM_ENUM>(kSwapHalves)),
      _mm512_clmulepi64_epi128(polynomial, middle, 0x00), kXor3);
  const __m256i halves =
      _mm256_xor_si256(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64(lanes, 1));
  const __m128i total =
      _mm_xor_si128(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
  return _mm512_zextsi128_si512(total);
}

DST_INLINE __m512i multiply(__m512i left, __m512i right) {
  Products product{};
  add_product(product, left, right);
  return reduce(product);
}

// Shifted by one bit, see above.
DST_INLINE __m128i times_x(__m128i value) {
  const __m128i carries =
      _mm_srai_epi32(_mm_shuffle_epi32(value, 0xff), 31);  // the top bit, everywhere
  const __m128i from_low = _mm_slli_si128(_mm_srli_epi64(value, 63), 8);
  const __m128i shifted = _mm_or_si128(_mm_slli_epi64(value, 1), from_low);
  const __m128i polynomial = _mm_set_epi64x(static_cast<long long>(0xc200000000000000ULL), 1);
  return _mm_xor_si128(shifted, _mm_and_si128(carries, polynomial));
}

template <int kRounds>
DST_INLINE void make_powers(GcmKey& key) {
  const __m128i hash_key = times_x(reverse(encrypt_block<kRounds>(key, _mm_setzero_si128())));
  const __m512i factor = _mm512_zextsi128_si512(hash_key);
  __m512i power = factor;
  for (size_t i = kNumPowers; i-- > 0;) {
    store_block(key.powers[i], _mm512_castsi512_si128(power));
    power = multiply(power, factor);
  }
}

// Goes on with `hash` over `count` blocks, at most kNumPowers.
DST_INLINE __m512i hash_blocks(const GcmKey& key, __m512i hash, const std::byte* blocks,
                               size_t count) {
  Products sum{};
  const std::byte* powers = key.powers[kNumPowers - count];
  for (size_t left = 2 * count; left > 0;) {  // 8-byte words
    const size_t words = left < 8 ? left : 8;
    const auto mask = static_cast<__mmask8>((1u << words) - 1);
    const __m512i text = reverse(_mm512_maskz_loadu_epi64(mask, blocks));
    add_product(sum, _mm512_xor_si512(text, hash), _mm512_maskz_loadu_epi64(mask, powers));
    hash = _mm512_setzero_si512();
    blocks += kVector;
    powers += kVector;
    left -= words;
  }
  return reduce(sum);
}

// ---- GCM

struct Tail {
  // Text and zeros behind it, then room for the block of lengths.
  alignas(kVector) std::byte bytes[kChunk + kVector];
  size_t size = 0;
};

DST_INLINE __m512i hash_chunk(const GcmKey& key, __m512i hash, const std::byte* chunk) {
  const std::byte* powers = key.powers[kNumPowers - kChunk / kBlock];
  Products sum{};
#pragma GCC unroll 8
  for (size_t i = 0; i < kNumVectors; ++i) {
    __m512i blocks = reverse(load(chunk + i * kVector));
    if (i == 0) blocks = _mm512_xor_si512(blocks, hash);
    add_product(sum, blocks, load(powers + i * kVector));
  }
  return reduce(sum);
}

// What is hashed is ciphertext, so that sealing hashes one chunk behind: the two halves of the loop
// never wait for each other.
template <int kRounds, bool kIsSealing>
DST_INLINE void crypt_chunks(const GcmKey& key, __m512i& counter, __m512i& hash,
                             const std::byte* in, std::byte* out, size_t count) {
  for (size_t chunk = 0; chunk < count; ++chunk, in += kChunk, out += kChunk) {
    __m512i stream[kNumVectors];
    make_keystream<kRounds>(key, counter, stream);
    if (!kIsSealing) hash = hash_chunk(key, hash, in);
    if (kIsSealing && chunk > 0) hash = hash_chunk(key, hash, out - kChunk);
#pragma GCC unroll 8
    for (size_t i = 0; i < kNumVectors; ++i)
      _mm512_storeu_si512(out + i * kVector, _mm512_xor_si512(load(in + i * kVector), stream[i]));
  }
  if (kIsSealing && count > 0) hash = hash_chunk(key, hash, out - kChunk);
}

// Leaves the result in tail.bytes. `text_bits` are of the whole text.
template <int kRounds, bool kIsSealing>
DST_INLINE __m512i crypt_tail(const GcmKey& key, __m512i counter, __m512i hash, Tail& tail,
                              uint64_t header_bits, uint64_t text_bits) {
  alignas(kVector) std::byte hashed[kChunk + kVector];
  const size_t num_blocks = (tail.size + kBlock - 1) / kBlock;
  for (size_t at = 0; at < tail.size; at += kVector) {
    const size_t left = tail.size - at;
    const __mmask64 mask = left >= kVector ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
    __m512i stream[1];
    make_keystream<kRounds>(key, counter, stream);
    const __m512i text = _mm512_maskz_loadu_epi8(mask, tail.bytes + at);
    const __m512i result = _mm512_maskz_mov_epi8(mask, _mm512_xor_si512(text, stream[0]));
    _mm512_store_si512(hashed + at, kIsSealing ? result : text);
    _mm512_store_si512(tail.bytes + at, result);
  }
  const __m128i lengths =
      _mm_set_epi64x(static_cast<long long>(header_bits), static_cast<long long>(text_bits));
  store_block(hashed + num_blocks * kBlock, reverse(lengths));
  return hash_blocks(key, hash, hashed, num_blocks + 1);
}

// A record's text is `size` bytes and one more; `last` is it, before and after.
template <int kRounds, bool kIsSealing>
DST_KERNEL void crypt(const GcmKey& key, const std::byte* nonce, std::span<const std::byte> header,
                      const std::byte* in, size_t size, std::byte* out, std::byte& last,
                      std::byte* tag) {
  alignas(kBlock) std::byte block[kBlock] = {};
  std::memcpy(block, nonce, RecordCipher::kNonceBytes);
  const __m128i zero_counter = reverse(load_block(block));
  const __m128i tag_mask =
      encrypt_block<kRounds>(key, reverse(_mm_add_epi32(zero_counter, _mm_set_epi32(0, 0, 0, 1))));
  __m512i counter =
      _mm512_add_epi32(_mm512_broadcast_i32x4(zero_counter),
                       _mm512_set_epi32(0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 2));

  std::memset(block, 0, kBlock);
  std::memcpy(block, header.data(), header.size());
  __m512i hash = hash_blocks(key, _mm512_setzero_si512(), block, 1);

  const size_t num_chunks = size / kChunk;
  crypt_chunks<kRounds, kIsSealing>(key, counter, hash, in, out, num_chunks);
  const size_t done = num_chunks * kChunk;
  Tail tail;
  tail.size = size - done + 1;
  std::memcpy(tail.bytes, in + done, size - done);
  tail.bytes[size - done] = last;
  hash =
      crypt_tail<kRounds, kIsSealing>(key, counter, hash, tail, 8 * header.size(), 8 * (size + 1));
  std::memcpy(out + done, tail.bytes, size - done);
  last = tail.bytes[size - done];
  store_block(tag, _mm_xor_si128(reverse(_mm512_castsi512_si128(hash)), tag_mask));
}

template <int kRounds>
class VectorCipher final : public RecordCipher {
 public:
  explicit VectorCipher(std::span<const std::byte> key) { set_key(key.data()); }
  ~VectorCipher() override { OPENSSL_cleanse(&key_, sizeof(key_)); }
  VectorCipher(const VectorCipher&) = delete;

  void seal(const Nonce& nonce, Bytes header, Bytes body, std::byte type, std::byte* out) override {
    const size_t size = body.size();
    std::byte tag[kTagBytes];
    crypt<kRounds, true>(key_, nonce.data(), header, body.data(), size, out, type, tag);
    out[size] = type;
    std::memcpy(out + size + 1, tag, kTagBytes);
  }

  bool open(const Nonce& nonce, Bytes header, Bytes sealed, std::byte* out,
            std::byte& type) override {
    const size_t size = sealed.size() - kOverhead;
    std::byte wanted[kTagBytes], tag[kTagBytes];
    std::memcpy(wanted, sealed.data() + size + 1, kTagBytes);
    type = sealed[size];
    crypt<kRounds, false>(key_, nonce.data(), header, sealed.data(), size, out, type, tag);
    return CRYPTO_memcmp(tag, wanted, kTagBytes) == 0;
  }

 private:
  DST_KERNEL void set_key(const std::byte* secret) {
    if constexpr (kRounds == 10)
      expand_128(key_, secret);
    else
      expand_256(key_, secret);
    make_powers<kRounds>(key_);
  }

  GcmKey key_;
};

bool has_instructions() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("vaes") && __builtin_cpu_supports("vpclmulqdq") &&
         __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
}

}  // namespace

std::unique_ptr<RecordCipher> make_vector_cipher(CipherKind kind, std::span<const std::byte> key) {
  if (!has_instructions()) return nullptr;
  if (kind == CipherKind::kAes128Gcm) return std::make_unique<VectorCipher<10>>(key);
  if (kind == CipherKind::kAes256Gcm) return std::make_unique<VectorCipher<14>>(key);
  return nullptr;
}

}  // namespace deepseek_train::collectives
