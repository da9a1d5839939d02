// NumPy arrays as the memory that collectives work on.
#pragma once

#include <pybind11/numpy.h>

#include <cstddef>
#include <span>

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

// Calls `visit` with the elements as a span of their C++ type; false, without a call, for the types
// that have none.
template <typename Visit>
bool visit_elements(const ArrayView& view, const Visit& visit) {
  auto as = [&]<typename T>(T*) {
    visit(std::span<T>(static_cast<T*>(view.data), view.count));
    return true;
  };
  switch (view.dtype) {
    case DType::kFloat32: return as(static_cast<float*>(nullptr));
    case DType::kFloat64: return as(static_cast<double*>(nullptr));
    case DType::kBFloat16: return as(static_cast<BFloat16*>(nullptr));
    case DType::kFloat16: return as(static_cast<Float16*>(nullptr));
    case DType::kInt64: return as(static_cast<int64_t*>(nullptr));
    case DType::kInt32: return as(static_cast<int32_t*>(nullptr));
    case DType::kUInt8: return as(static_cast<uint8_t*>(nullptr));
    default: return false;
  }
}

}  // namespace deepseek_train::python
