// The compiled module deepseek_train._core, one function for each component.
#pragma once

#include <pybind11/pybind11.h>

namespace deepseek_train::python {

// Makes C++ errors arrive as the classes of deepseek_train/errors.py.
void bind_errors();
void bind_collectives(pybind11::module_& module);
void bind_data(pybind11::module_& module);
void bind_tuning(pybind11::module_& module);

// The class of that name in deepseek_train/errors.py.
pybind11::object error_class(const char* name);

}  // namespace deepseek_train::python
