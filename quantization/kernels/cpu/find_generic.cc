// Processors without vector paths of ours.
#include "quantization/kernels/cpu/row_kernels_levels.h"

namespace deepseek_train::quantization {

const RowKernels* find_row_kernels(SimdLevel level) {
  return level == SimdLevel::kPortable ? &portable_row_kernels() : nullptr;
}

}  // namespace deepseek_train::quantization
