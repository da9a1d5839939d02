// JSON in and out of templates.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "src/text/jinja/value.h"

namespace deepseek_train::text::jinja {

Value value_of_json(const nlohmann::ordered_json& json);

// json.dumps() as transformers sets it: no escapes for letters beyond ASCII.
struct JsonStyle {
  int indent = -1;  // -1: all on one line
  bool sort_keys = false;
  bool ensure_ascii = false;
  std::string item_separator;  // empty: ", ", or "," with an indent
  std::string key_separator = ": ";
};
// Fails at `line` for what JSON cannot hold.
std::string to_json(const Value& value, const JsonStyle& style, int line);

}  // namespace deepseek_train::text::jinja
