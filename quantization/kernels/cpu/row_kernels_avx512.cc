// Sixteen lanes. bf16 is rounded with integer operations: the CPU's own conversion flushes
// denormals to zero, which would not be what the other levels do.
#include <immintrin.h>

#include <cstdint>

#include "deepseek_train/core/dtype.h"
#include "deepseek_train/quantization/int8.h"
#include "quantization/kernels/cpu/x86_levels.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq")
#include "quantization/kernels/cpu/row_loops.h"

namespace deepseek_train::quantization {
namespace {

struct Avx512ByReciprocal;

struct Avx512 {
  static constexpr int64_t kLanes = 16;
  using Floats = __m512;
  using Bits = __m512i;

  static Floats load(const float* p) { return _mm512_loadu_ps(p); }
  static Floats load(const BFloat16* p) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  static Floats load(const int32_t* p) { return _mm512_cvtepi32_ps(_mm512_loadu_si512(p)); }
  static Floats broadcast(float x) { return _mm512_set1_ps(x); }

  static void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
  static void store(BFloat16* p, Floats x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i chosen = _mm512_mask_blend_epi32(is_nan, rounded, quiet);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(chosen, 16)));
  }
  static void store_rounded(int8_t* p, Floats quotient) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes_of(quotient));
  }
  static void store_rounded(uint8_t* p, Floats quotient) {
    // Adding 128 modulo 256 is flipping the top bit.
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_xor_si128(bytes_of(quotient), _mm_set1_epi8(-128)));
  }

  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats round(Floats x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // The instructions return their second operand if either is NaN.
  static Floats at_least(float bound, Floats x) { return _mm512_max_ps(_mm512_set1_ps(bound), x); }
  static Floats at_most(float bound, Floats x) { return _mm512_min_ps(_mm512_set1_ps(bound), x); }

  static Bits no_bits() { return _mm512_setzero_si512(); }
  static Bits magnitude_bits(Floats x) {
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
  }
  static Bits larger(Bits a, Bits b) { return _mm512_max_epu32(a, b); }
  static uint32_t largest_of(Bits bits) { return _mm512_reduce_max_epu32(bits); }

  struct Divider {
    explicit Divider(float scale) : scales(_mm512_set1_ps(scale)) {}
    Floats operator()(Floats x) const { return _mm512_div_ps(x, scales); }
    Floats scales;
  };
  using ForOrdinaryScales = Avx512ByReciprocal;

 private:
  // Rounds half to even, then saturates. A NaN converts to the smallest integer, so to -128.
  static __m128i bytes_of(Floats quotient) {
    return _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(quotient));
  }
};

// Division by a few fused multiply-adds, some three times as fast as the instruction and correctly
// rounded too: with the correctly rounded reciprocal, one correction makes the quotient faithful
// (off by less than a unit in the last place), and a second one exact (P. Markstein, IBM J. Res.
// Dev. 34, 1990).
struct Avx512ByReciprocal : Avx512 {
  struct Divider {
    explicit Divider(float scale)
        : scales(_mm512_set1_ps(scale)), reciprocals(_mm512_set1_ps(1.0f / scale)) {}
    Floats operator()(Floats x) const {
      return correct(correct(_mm512_mul_ps(x, reciprocals), x), x);
    }
    Floats correct(Floats quotient, Floats x) const {
      const Floats remainder = _mm512_fnmadd_ps(quotient, scales, x);
      return _mm512_fmadd_ps(remainder, reciprocals, quotient);
    }
    Floats scales;
    Floats reciprocals;
  };
};

}  // namespace

const RowKernels& avx512_row_kernels() {
  static constexpr RowKernels kernels = row_loops<Avx512>(SimdLevel::kAvx512);
  return kernels;
}

}  // namespace deepseek_train::quantization
#pragma GCC pop_options
