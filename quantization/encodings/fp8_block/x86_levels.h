#pragma once

#include "quantization/encodings/fp8_block/fp8_kernels.h"

namespace deepseek_train::quantization {

const Fp8Kernels& avx2_fp8_kernels();
const Fp8Kernels& avx512_fp8_kernels();

}  // namespace deepseek_train::quantization
