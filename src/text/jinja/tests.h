#pragma once

#include <string_view>

#include "src/text/jinja/value.h"

namespace deepseek_train::text::jinja {

// What "value is name(arguments)" asks; null for a test that is not supported.
using Test = bool (*)(const Value& value, const Arguments& arguments);
Test find_test(std::string_view name);

}  // namespace deepseek_train::text::jinja
