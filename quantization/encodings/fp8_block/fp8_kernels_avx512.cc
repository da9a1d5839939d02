// Sixteen lanes. e4m3 becomes float through half precision, whose conversion takes subnormals at
// full speed: the 7 bits moved up by 7 are the half that is 2^-8 times the value.
#include <immintrin.h>

#include "quantization/encodings/fp8_block/x86_levels.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq")
#include "quantization/encodings/fp8_block/fp8_loops.h"

namespace deepseek_train::quantization {
namespace {

struct Avx512 {
  static constexpr int64_t kCount = 16;

  static __m512 broadcast(float x) { return _mm512_set1_ps(x); }
  static __m512 multiply(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }
  static __m512 divide(__m512 a, __m512 b) { return _mm512_div_ps(a, b); }

  static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  static __m512 load(const BFloat16* p) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  static __m512 load(const Float8E4M3* p) {
    const __m256i bytes =
        _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256i seven = _mm256_and_si256(bytes, _mm256_set1_epi16(0x7f));
    const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(bytes, _mm256_set1_epi16(0x80)), 8);
    const __mmask16 is_nan = _mm256_cmpeq_epi16_mask(seven, _mm256_set1_epi16(0x7f));
    const __m256i half = _mm256_mask_mov_epi16(_mm256_or_si256(_mm256_slli_epi16(seven, 7), sign),
                                               is_nan, _mm256_set1_epi16(0x7e00));
    return _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(0x1p8f));
  }

  static void store(__m512 x, float* p) { _mm512_storeu_ps(p, x); }
  static void store(__m512 x, BFloat16* p) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(
                            _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, is_nan, quiet), 16)));
  }
  // As to_float8_e4m3(); the weights of a block are finite when they come here.
  static void store(__m512 x, Float8E4M3* p) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(bits, 24), _mm512_set1_epi32(0x80));
    const __m512 magnitude =
        _mm512_min_ps(_mm512_castsi512_ps(magnitude_bits(x)), _mm512_set1_ps(kLargestFloat8E4M3));
    const __m512i wide = _mm512_castps_si512(magnitude);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(wide, 20), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(wide, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7ffff)));
    const __m512i normal =
        _mm512_sub_epi32(_mm512_srli_epi32(rounded, 20), _mm512_set1_epi32(120 << 3));
    const __m512i subnormal =
        _mm512_sub_epi32(_mm512_castps_si512(_mm512_add_ps(magnitude, _mm512_set1_ps(0x1p14f))),
                         _mm512_set1_epi32(0x46800000));
    const __mmask16 is_small = _mm512_cmp_ps_mask(magnitude, _mm512_set1_ps(0x1p-6f), _CMP_LT_OQ);
    const __m512i code = _mm512_or_si512(_mm512_mask_mov_epi32(normal, is_small, subnormal), sign);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(code));
  }

  static __m512i zero_bits() { return _mm512_setzero_si512(); }
  static __m512i magnitude_bits(__m512 x) {
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
  }
  static __m512i larger(__m512i a, __m512i b) { return _mm512_max_epu32(a, b); }
  static uint32_t largest_of(__m512i bits) { return _mm512_reduce_max_epu32(bits); }
};

}  // namespace

const Fp8Kernels& avx512_fp8_kernels() {
  static constexpr Fp8Kernels kKernels = fp8_kernels_of<Avx512>(SimdLevel::kAvx512);
  return kKernels;
}

}  // namespace deepseek_train::quantization
#pragma GCC pop_options
