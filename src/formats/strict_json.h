// JSON from files that may be anything.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace deepseek_train::formats {

// Throws DataCorruption, beginning with `where`, for text that is not JSON, a key given twice in
// one object, or nesting deeper than the headers and indices of safetensors can be.
nlohmann::json parse_strict_json(std::string_view text, const std::string& where);

}  // namespace deepseek_train::formats
