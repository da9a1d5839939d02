#include "quantization/kernels/cpu/row_kernels_levels.h"
#include "quantization/kernels/cpu/row_loops.h"

namespace deepseek_train::quantization {

const RowKernels& portable_row_kernels() {
  static constexpr RowKernels kernels = row_loops<Scalar>(SimdLevel::kPortable);
  return kernels;
}

}  // namespace deepseek_train::quantization
