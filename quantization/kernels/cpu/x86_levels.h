#pragma once

#include "deepseek_train/quantization/row_kernels.h"

namespace deepseek_train::quantization {

const RowKernels& avx2_row_kernels();
const RowKernels& avx512_row_kernels();

}  // namespace deepseek_train::quantization
