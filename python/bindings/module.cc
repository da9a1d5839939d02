#include <string>

#include "deepseek_train/core/version.h"
#include "python/bindings/bindings.h"

PYBIND11_MODULE(_core, module) {
  using namespace deepseek_train;
  module.doc() =
      "The compiled part of deepseek_train; import the names from deepseek_train itself.";
  module.attr("__version__") = std::string(version());
  python::bind_errors();
  python::bind_collectives(module);
  python::bind_data(module);
  python::bind_tuning(module);
}
