// How configurations name modules.
#pragma once

#include <string>
#include <vector>

namespace deepseek_train::tuning {

// Whether the entry ("q_proj", a whole name, or "re:" and a regular expression) names the module.
bool names_module(const std::string& entry, const std::string& module);
// Whether any does.
bool names_module(const std::vector<std::string>& entries, const std::string& module);

}  // namespace deepseek_train::tuning
