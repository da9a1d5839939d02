#pragma once

#include <string_view>

namespace deepseek_train {

// "0.1.0"; the version of the linked library, not of the header.
std::string_view version();

}  // namespace deepseek_train
