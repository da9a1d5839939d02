#include "deepseek_train/quantization/row_kernels.h"

#include "deepseek_train/core/error.h"
#include "quantization/kernels/cpu/row_kernels_levels.h"

namespace deepseek_train::quantization {

std::string_view name_of(SimdLevel level) {
  switch (level) {
    case SimdLevel::kPortable: return "portable";
    case SimdLevel::kAvx2: return "avx2";
    case SimdLevel::kAvx512: return "avx512";
  }
  throw Internal("a SimdLevel without a name");
}

std::vector<SimdLevel> supported_simd_levels() {
  std::vector<SimdLevel> levels;
  for (SimdLevel level : {SimdLevel::kPortable, SimdLevel::kAvx2, SimdLevel::kAvx512}) {
    if (find_row_kernels(level)) levels.push_back(level);
  }
  return levels;
}

const RowKernels& row_kernels(SimdLevel level) {
  const RowKernels* kernels = find_row_kernels(level);
  DST_CHECK_AS(Unavailable, kernels, "this CPU or this build has no ", name_of(level),
               " kernels; call row_kernels() for the best there are");
  return *kernels;
}

const RowKernels& row_kernels() {
  static const RowKernels& best = row_kernels(supported_simd_levels().back());
  return best;
}

}  // namespace deepseek_train::quantization
