#include "deepseek_train/core/version.h"

namespace deepseek_train {

std::string_view version() { return DST_VERSION; }

}  // namespace deepseek_train
