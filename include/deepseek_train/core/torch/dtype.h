// Our element types and libtorch's, one for the other.
#pragma once

#include <c10/core/ScalarType.h>

#include "deepseek_train/core/dtype.h"

namespace deepseek_train {

// Throw InvalidArgument, by name, for a type the other side does not have.
DType dtype_of(c10::ScalarType type);
c10::ScalarType scalar_type_of(DType dtype);

}  // namespace deepseek_train
