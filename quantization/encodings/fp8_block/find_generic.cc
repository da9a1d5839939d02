// Processors without vector paths of ours.
#include "quantization/encodings/fp8_block/fp8_kernels.h"

namespace deepseek_train::quantization {

const Fp8Kernels* find_fp8_kernels(SimdLevel level) {
  return level == SimdLevel::kPortable ? &portable_fp8_kernels() : nullptr;
}

}  // namespace deepseek_train::quantization
