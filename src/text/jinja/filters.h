#pragma once

#include <string_view>

#include "src/text/jinja/value.h"

namespace deepseek_train::text::jinja {

// What {{ value | name(arguments) }} does; null for a filter that is not supported.
using Filter = Value (*)(const Value& value, const Arguments& arguments);
Filter find_filter(std::string_view name);

}  // namespace deepseek_train::text::jinja
