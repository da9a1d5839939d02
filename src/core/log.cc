#include "deepseek_train/core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace deepseek_train {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
    case LogLevel::kOff: return spdlog::level::off;
  }
  return spdlog::level::info;
}

// Our own logger, so that a program's spdlog settings are left as they are. spdlog's loggers lock
// for themselves.
spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    spdlog::logger made("deepseek_train", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made.set_pattern("%H:%M:%S %^%l%$ %v");
    made.flush_on(spdlog::level::info);
    return made;
  }();
  return instance;
}

}  // namespace

void set_log_level(LogLevel level) { logger().set_level(to_spdlog(level)); }

void set_log_prefix(std::string_view prefix) {
  logger().set_pattern(prefix.empty() ? "%H:%M:%S %^%l%$ %v"
                                      : concat("%H:%M:%S %^%l%$ [", prefix, "] %v"));
}

void log_line(LogLevel level, std::string_view text) { logger().log(to_spdlog(level), "{}", text); }

}  // namespace deepseek_train
