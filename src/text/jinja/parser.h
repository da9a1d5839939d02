// From a template's source to its tree.
#pragma once

#include <string_view>

#include "src/text/jinja/nodes.h"

namespace deepseek_train::text::jinja {

// Throws InvalidArgument with the line for anything that is not understood: a statement, filter or
// test that is not supported by its name.
Block parse_template(std::string_view source);

}  // namespace deepseek_train::text::jinja
