// Intel's SHA extensions: two rounds an instruction. See the SDM's SHA256RNDS2, SHA256MSG1,
// SHA256MSG2.
#include <cpuid.h>
#include <immintrin.h>

#include "src/core/sha256_blocks.h"

namespace deepseek_train {
namespace {

constexpr uint32_t kShaBit = 1u << 29;    // leaf 7, EBX
constexpr uint32_t kSse41Bit = 1u << 19;  // leaf 1, ECX

bool has_sha_instructions() {
  uint32_t eax, ebx, ecx, edx;
  const bool has_sse41 = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & kSse41Bit);
  return has_sse41 && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & kShaBit);
}

// The instructions want the state as the words a b e f and c d g h, the highest first.
__attribute__((target("sha,sse4.1,ssse3"))) void hash_blocks(std::array<uint32_t, 8>& state,
                                                             const std::byte* blocks,
                                                             size_t num_blocks) {
  const __m128i to_big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  auto* words = reinterpret_cast<__m128i*>(state.data());
  const auto* constants = reinterpret_cast<const __m128i*>(kSha256RoundConstants.data());
  const __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128(words), 0xb1);
  const __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128(words + 1), 0x1b);
  __m128i abef = _mm_alignr_epi8(badc, hgfe, 8);
  __m128i cdgh = _mm_blend_epi16(hgfe, badc, 0xf0);

  for (; num_blocks > 0; --num_blocks, blocks += kSha256BlockBytes) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    const auto* message = reinterpret_cast<const __m128i*>(blocks);
    __m128i w[4];  // the last sixteen words of the message schedule
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      __m128i& next = w[i % 4];
      if (i < 4) {
        next = _mm_shuffle_epi8(_mm_loadu_si128(message + i), to_big_endian);
      } else {
        const __m128i last = w[(i + 3) % 4];
        const __m128i middle = _mm_alignr_epi8(last, w[(i + 2) % 4], 4);
        next = _mm_sha256msg2_epu32(
            _mm_add_epi32(_mm_sha256msg1_epu32(next, w[(i + 1) % 4]), middle), last);
      }
      const __m128i sum = _mm_add_epi32(next, _mm_load_si128(constants + i));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
    }
    abef = _mm_add_epi32(abef, abef_before);
    cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }

  const __m128i feba = _mm_shuffle_epi32(abef, 0x1b);
  const __m128i dchg = _mm_shuffle_epi32(cdgh, 0xb1);
  _mm_storeu_si128(words, _mm_blend_epi16(feba, dchg, 0xf0));
  _mm_storeu_si128(words + 1, _mm_alignr_epi8(dchg, feba, 8));
}

}  // namespace

Sha256HashBlocks find_sha256_instructions() {
  return has_sha_instructions() ? &hash_blocks : nullptr;
}

}  // namespace deepseek_train
