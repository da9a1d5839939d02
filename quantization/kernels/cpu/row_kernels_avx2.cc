// Eight lanes. Needs AVX2 only: bf16 is widened and rounded with integer operations.
#include <immintrin.h>

#include <cstdint>

#include "deepseek_train/core/dtype.h"
#include "deepseek_train/quantization/int8.h"
#include "quantization/kernels/cpu/x86_levels.h"

#pragma GCC push_options
#pragma GCC target("avx2")
#include "quantization/kernels/cpu/row_loops.h"

namespace deepseek_train::quantization {
namespace {

struct Avx2 {
  static constexpr int64_t kLanes = 8;
  using Floats = __m256;
  using Bits = __m256i;

  static Floats load(const float* p) { return _mm256_loadu_ps(p); }
  static Floats load(const BFloat16* p) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  static Floats load(const int32_t* p) {
    return _mm256_cvtepi32_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Floats broadcast(float x) { return _mm256_set1_ps(x); }

  static void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
  static void store(BFloat16* p, Floats x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i words = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(p),
        _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
  static void store_rounded(int8_t* p, Floats quotient) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes_of(quotient));
  }
  static void store_rounded(uint8_t* p, Floats quotient) {
    // Adding 128 modulo 256 is flipping the top bit.
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p),
                     _mm_xor_si128(bytes_of(quotient), _mm_set1_epi8(-128)));
  }

  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
  static Floats round(Floats x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // The instructions return their second operand if either is NaN.
  static Floats at_least(float bound, Floats x) { return _mm256_max_ps(_mm256_set1_ps(bound), x); }
  static Floats at_most(float bound, Floats x) { return _mm256_min_ps(_mm256_set1_ps(bound), x); }

  static Bits no_bits() { return _mm256_setzero_si256(); }
  static Bits magnitude_bits(Floats x) {
    return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
  }
  static Bits larger(Bits a, Bits b) { return _mm256_max_epu32(a, b); }
  static uint32_t largest_of(Bits bits) {
    __m128i x = _mm_max_epu32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
    x = _mm_max_epu32(x, _mm_shuffle_epi32(x, _MM_SHUFFLE(1, 0, 3, 2)));
    x = _mm_max_epu32(x, _mm_shuffle_epi32(x, _MM_SHUFFLE(2, 3, 0, 1)));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(x));
  }

  struct Divider {
    explicit Divider(float scale) : scales(_mm256_set1_ps(scale)) {}
    Floats operator()(Floats x) const { return _mm256_div_ps(x, scales); }
    Floats scales;
  };
  using ForOrdinaryScales = Avx2;

 private:
  // Rounds half to even, then saturates. A NaN converts to the smallest integer, so to -128.
  static __m128i bytes_of(Floats quotient) {
    const __m256i q = _mm256_cvtps_epi32(quotient);
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    return _mm_packs_epi16(words, words);
  }
};

}  // namespace

const RowKernels& avx2_row_kernels() {
  static constexpr RowKernels kernels = row_loops<Avx2>(SimdLevel::kAvx2);
  return kernels;
}

}  // namespace deepseek_train::quantization
#pragma GCC pop_options
