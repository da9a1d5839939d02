// Logging. Lines go to standard error through spdlog, which no header of ours shows. Thread-safe.
#pragma once

#include <string_view>

#include "deepseek_train/core/strings.h"

namespace deepseek_train {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

void set_log_level(LogLevel level);
// "rank 1" in front of every line; empty for none.
void set_log_prefix(std::string_view prefix);
void log_line(LogLevel level, std::string_view text);

template <typename... Values>
void log_debug(const Values&... values) {
  log_line(LogLevel::kDebug, concat(values...));
}
template <typename... Values>
void log_info(const Values&... values) {
  log_line(LogLevel::kInfo, concat(values...));
}
template <typename... Values>
void log_warning(const Values&... values) {
  log_line(LogLevel::kWarning, concat(values...));
}
template <typename... Values>
void log_error(const Values&... values) {
  log_line(LogLevel::kError, concat(values...));
}

}  // namespace deepseek_train
