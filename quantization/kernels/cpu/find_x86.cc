#include "quantization/kernels/cpu/row_kernels_levels.h"
#include "quantization/kernels/cpu/x86_levels.h"

namespace deepseek_train::quantization {
namespace {

// The compiler's run-time library also asks the operating system whether it saves the wide
// registers.
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

}  // namespace

const RowKernels* find_row_kernels(SimdLevel level) {
  switch (level) {
    case SimdLevel::kPortable: return &portable_row_kernels();
    case SimdLevel::kAvx2: return __builtin_cpu_supports("avx2") ? &avx2_row_kernels() : nullptr;
    case SimdLevel::kAvx512: return has_avx512() ? &avx512_row_kernels() : nullptr;
  }
  return nullptr;
}

}  // namespace deepseek_train::quantization
