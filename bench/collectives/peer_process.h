// Peers that must be started with settings of their own, while our ranks sleep.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace deepseek_train::bench {

// Runs a command line with a clean environment (PATH, HOME and the user's temporary folder; none of
// the launcher's variables) and returns the medians it printed: microseconds by bytes, read from
// JSON lines with "value" and "config": {"bytes": ...}. Throws Unavailable, with what the command
// said last, if it fails.
std::map<size_t, double> run_peer(const std::vector<std::string>& command);

}  // namespace deepseek_train::bench
