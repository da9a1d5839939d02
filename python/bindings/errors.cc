#include <c10/util/Exception.h>

#include <exception>

#include "deepseek_train/core/error.h"
#include "python/bindings/bindings.h"

namespace py = pybind11;

namespace deepseek_train::python {
namespace {

void raise(const char* name, const char* message) {
  PyErr_SetString(error_class(name).ptr(), message);
}

// Derived classes before their bases.
void translate(std::exception_ptr error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const InvalidArgument& e) {
    raise("InvalidArgument", e.what());
  } catch (const NotFound& e) {
    raise("NotFound", e.what());
  } catch (const Timeout& e) {
    raise("Timeout", e.what());
  } catch (const PeerFailure& e) {
    raise("PeerFailure", e.what());
  } catch (const Unavailable& e) {
    raise("Unavailable", e.what());
  } catch (const DataCorruption& e) {
    raise("DataCorruption", e.what());
  } catch (const PermissionDenied& e) {
    raise("PermissionDenied", e.what());
  } catch (const Internal& e) {
    raise("Internal", e.what());
  } catch (const Error& e) {
    raise("Error", e.what());
  } catch (const c10::Error& e) {
    // The text of libtorch without the dozens of lines of its backtrace.
    raise("Error", e.what_without_backtrace());
  }
}

}  // namespace

py::object error_class(const char* name) {
  return py::module_::import("deepseek_train.errors").attr(name);
}

void bind_errors() { py::register_local_exception_translator(translate); }

}  // namespace deepseek_train::python
