// The implementations that this build has; the CMake file chooses their sources by processor.
#pragma once

#include "deepseek_train/quantization/row_kernels.h"

namespace deepseek_train::quantization {

const RowKernels& portable_row_kernels();

// nullptr if this build or this CPU does not have the level.
const RowKernels* find_row_kernels(SimdLevel level);

}  // namespace deepseek_train::quantization
