// Eight lanes. e4m3 becomes float through half precision, whose conversion (F16C) takes subnormals
// at full speed: the 7 bits moved up by 7 are the half that is 2^-8 times the value.
#include <immintrin.h>

#include "quantization/encodings/fp8_block/x86_levels.h"

#pragma GCC push_options
#pragma GCC target("avx2,f16c")
#include "quantization/encodings/fp8_block/fp8_loops.h"

namespace deepseek_train::quantization {
namespace {

struct Avx2 {
  static constexpr int64_t kCount = 8;

  static __m256 broadcast(float x) { return _mm256_set1_ps(x); }
  static __m256 multiply(__m256 a, __m256 b) { return _mm256_mul_ps(a, b); }
  static __m256 divide(__m256 a, __m256 b) { return _mm256_div_ps(a, b); }

  static __m256 load(const float* p) { return _mm256_loadu_ps(p); }
  static __m256 load(const BFloat16* p) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  static __m256 load(const Float8E4M3* p) {
    const __m128i bytes = _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    const __m128i seven = _mm_and_si128(bytes, _mm_set1_epi16(0x7f));
    const __m128i sign = _mm_slli_epi16(_mm_and_si128(bytes, _mm_set1_epi16(0x80)), 8);
    const __m128i is_nan = _mm_cmpeq_epi16(seven, _mm_set1_epi16(0x7f));
    const __m128i half = _mm_blendv_epi8(_mm_or_si128(_mm_slli_epi16(seven, 7), sign),
                                         _mm_set1_epi16(0x7e00), is_nan);
    return _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(0x1p8f));
  }

  static void store(__m256 x, float* p) { _mm256_storeu_ps(p, x); }
  static void store(__m256 x, BFloat16* p) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(p),
        _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
  }
  // As to_float8_e4m3(); the weights of a block are finite when they come here.
  static void store(__m256 x, Float8E4M3* p) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i sign = _mm256_and_si256(_mm256_srli_epi32(bits, 24), _mm256_set1_epi32(0x80));
    const __m256 magnitude =
        _mm256_min_ps(_mm256_castsi256_ps(magnitude_bits(x)), _mm256_set1_ps(kLargestFloat8E4M3));
    const __m256i wide = _mm256_castps_si256(magnitude);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(wide, 20), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(wide, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7ffff)));
    const __m256i normal =
        _mm256_sub_epi32(_mm256_srli_epi32(rounded, 20), _mm256_set1_epi32(120 << 3));
    const __m256i subnormal =
        _mm256_sub_epi32(_mm256_castps_si256(_mm256_add_ps(magnitude, _mm256_set1_ps(0x1p14f))),
                         _mm256_set1_epi32(0x46800000));
    const __m256i is_small =
        _mm256_castps_si256(_mm256_cmp_ps(magnitude, _mm256_set1_ps(0x1p-6f), _CMP_LT_OQ));
    const __m256i code = _mm256_or_si256(_mm256_blendv_epi8(normal, subnormal, is_small), sign);
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
  }

  static __m256i zero_bits() { return _mm256_setzero_si256(); }
  static __m256i magnitude_bits(__m256 x) {
    return _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
  }
  static __m256i larger(__m256i a, __m256i b) { return _mm256_max_epu32(a, b); }
  static uint32_t largest_of(__m256i bits) {
    __m128i four = _mm_max_epu32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(four));
  }
};

}  // namespace

const Fp8Kernels& avx2_fp8_kernels() {
  static constexpr Fp8Kernels kKernels = fp8_kernels_of<Avx2>(SimdLevel::kAvx2);
  return kKernels;
}

}  // namespace deepseek_train::quantization
#pragma GCC pop_options
