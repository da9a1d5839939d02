#include "deepseek_train/tuning/run_log.h"

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "deepseek_train/core/error.h"

namespace deepseek_train::tuning {

RunLog::RunLog(const std::string& path) : file_(path, std::ios::app) {
  DST_CHECK_AS(Unavailable, file_.good(), "cannot append to ", path,
               "; is the folder writable and the disk not full?");
}

void RunLog::record(int64_t step, const MetricValues& values) {
  nlohmann::ordered_json json = {{"step", step}};
  for (const auto& [name, value] : values) json[name] = value;
  std::lock_guard lock(mutex_);
  file_ << json.dump() << std::endl;
}

std::vector<training::LogEntry> read_run_log(Env& env, const std::string& path) {
  if (!env.exists(path)) return {};
  std::map<int64_t, training::LogEntry> entries;
  std::istringstream lines(read_text(env, path));
  for (std::string line; std::getline(lines, line);) {
    auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("step")) continue;  // a line cut by a kill
    training::LogEntry entry{.step = json["step"],
                             .loss = json.value("loss", 0.0),
                             .learning_rate = json.value("learning_rate", 0.0),
                             .grad_norm = json.value("grad_norm", 0.0),
                             .tokens_per_second = json.value("tokens_per_second", 0.0)};
    entries[entry.step] = entry;
  }
  std::vector<training::LogEntry> history;
  for (const auto& [step, entry] : entries) history.push_back(entry);
  return history;
}

}  // namespace deepseek_train::tuning
