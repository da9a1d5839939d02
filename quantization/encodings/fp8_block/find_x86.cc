#include "quantization/encodings/fp8_block/x86_levels.h"

namespace deepseek_train::quantization {
namespace {

bool has(SimdLevel level) {
  for (const SimdLevel supported : supported_simd_levels())
    if (supported == level) return true;
  return false;
}

}  // namespace

const Fp8Kernels* find_fp8_kernels(SimdLevel level) {
  if (!has(level)) return nullptr;
  switch (level) {
    case SimdLevel::kPortable: return &portable_fp8_kernels();
    case SimdLevel::kAvx2: return __builtin_cpu_supports("f16c") ? &avx2_fp8_kernels() : nullptr;
    case SimdLevel::kAvx512: return &avx512_fp8_kernels();
  }
  return nullptr;
}

}  // namespace deepseek_train::quantization
