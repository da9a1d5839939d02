#include "deepseek_train/core/error.h"

namespace deepseek_train {

void detail::throw_check_failure(const char* file, int line, const char* condition,
                                 const std::string& message) {
  throw Internal(concat("internal error at ", file, ":", line, ": ", condition,
                        " does not hold: ", message, " (please report this)"));
}

}  // namespace deepseek_train
