// NumPy arrays as the memory that collectives work on.
#pragma once

#include <pybind11/numpy.h>

#include <cstddef>

#include "deepseek_train/core/dtype.h"

namespace deepseek_train::python {

// The elements of an array, borrowed: the array must outlive the view.
struct ArrayView {
  void* data = nullptr;
  size_t count = 0;
  DType dtype = DType::kFloat32;
};

// An array whose elements lie one after another, in the processor's byte order and in a type of
// ours. InvalidArgument says what is wrong and, where a copy helps, how to make one.
ArrayView view_to_read(const pybind11::object& array);
// The same for memory that will be written: not a copy, not read-only.
ArrayView view_to_write(const pybind11::object& array);

}  // namespace deepseek_train::python
