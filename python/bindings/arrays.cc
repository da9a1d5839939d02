#include "python/bindings/arrays.h"

#include <string>
#include <utility>

#include "deepseek_train/core/error.h"

namespace py = pybind11;

namespace deepseek_train::python {
namespace {

// NumPy's names; bfloat16 and the 8-bit floats are those of the package ml_dtypes.
constexpr std::pair<const char*, DType> kDTypes[] = {{"float32", DType::kFloat32},
                                                     {"float64", DType::kFloat64},
                                                     {"bfloat16", DType::kBFloat16},
                                                     {"float16", DType::kFloat16},
                                                     {"int64", DType::kInt64},
                                                     {"int32", DType::kInt32},
                                                     {"int8", DType::kInt8},
                                                     {"uint8", DType::kUInt8},
                                                     {"bool", DType::kBool},
                                                     {"float8_e4m3fn", DType::kFloat8E4M3},
                                                     {"float8_e5m2", DType::kFloat8E5M2},
                                                     {"float8_e8m0fnu", DType::kFloat8E8M0}};

DType dtype_of(const py::array& array) {
  const auto name = array.dtype().attr("name").cast<std::string>();
  DST_CHECK(
      array.dtype().attr("isnative").cast<bool>(), "an array of ", name,
      " is in the other byte order; convert it with array.astype(array.dtype.newbyteorder('='))");
  std::string known;
  for (const auto& [candidate, dtype] : kDTypes) {
    if (name == candidate) return dtype;
    known += std::string(known.empty() ? "" : ", ") + candidate;
  }
  throw InvalidArgument(concat("an array of ", name, " cannot be sent; wanted one of ", known));
}

py::array checked_array(const py::object& object) {
  if (!py::isinstance<py::array>(object))
    throw py::type_error(concat("found ", Py_TYPE(object.ptr())->tp_name,
                                ", wanted a NumPy array (numpy.asarray makes one)"));
  auto array = py::reinterpret_borrow<py::array>(object);
  DST_CHECK(
      (array.flags() & py::array::c_style) != 0,
      "the array's elements do not lie one after another; pass numpy.ascontiguousarray(array)");
  return array;
}

}  // namespace

ArrayView view_to_read(const py::object& object) {
  auto array = checked_array(object);
  return {const_cast<void*>(array.data()), static_cast<size_t>(array.size()), dtype_of(array)};
}

ArrayView view_to_write(const py::object& object) {
  DST_CHECK(checked_array(object).writeable(),
            "the array is read-only and would be changed in place; pass array.copy()");
  return view_to_read(object);
}

}  // namespace deepseek_train::python
