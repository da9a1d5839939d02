#include "bench/collectives/peer_process.h"

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"

namespace deepseek_train::bench {
namespace {

std::string shell_word(const std::string& word) {
  std::string text = "'";
  for (const char c : word) {
    if (c == '\'')
      text += "'\\''";
    else
      text += c;
  }
  text += '\'';
  return text;
}

std::string kept_variables() {
  std::string text;
  for (const char* name : {"PATH", "HOME", "TMPDIR"}) {
    if (const char* value = std::getenv(name))
      text += concat(" ", shell_word(concat(name, "=", value)));
  }
  return text;
}

}  // namespace

std::map<size_t, double> run_peer(const std::vector<std::string>& command) {
  std::string line = "env -i" + kept_variables();
  for (const auto& word : command) line += " " + shell_word(word);
  std::FILE* pipe = ::popen((line + " 2>&1").c_str(), "r");
  DST_CHECK_AS(Unavailable, pipe, "cannot start ", command[0]);
  std::map<size_t, double> medians;
  std::string last;
  for (char buffer[4096]; std::fgets(buffer, sizeof(buffer), pipe);) {
    last = buffer;
    const auto json = nlohmann::json::parse(last, nullptr, /*allow_exceptions=*/false);
    if (json.is_object()) medians[json.at("config").at("bytes")] = json.at("value");
  }
  const int status = ::pclose(pipe);
  DST_CHECK_AS(Unavailable, status == 0 && !medians.empty(), line, " ended with status ", status,
               ": ", last);
  return medians;
}

}  // namespace deepseek_train::bench
