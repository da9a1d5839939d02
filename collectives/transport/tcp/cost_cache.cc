#include "collectives/transport/tcp/cost_cache.h"

#include <cmath>
#include <cstdio>
#include <sstream>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"
#include "deepseek_train/core/sha256.h"

namespace deepseek_train::collectives {
namespace {

constexpr std::string_view kFormat = "deepseek_train link costs 1";
constexpr auto kMaxAge = std::chrono::hours(7 * 24);

int64_t seconds_since_epoch(CostCache::Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

constexpr int kMaxStreams = 64;

// Costs that a link can have.
std::optional<LinkCosts> parse_costs(std::istream& text) {
  LinkCosts costs;
  if (!(text >> costs.latency >> costs.message >> costs.ring_byte >> costs.exchange_byte >>
        costs.num_streams))
    return {};
  for (const double positive : {costs.latency, costs.ring_byte, costs.exchange_byte}) {
    if (!std::isfinite(positive) || positive <= 0) return {};
  }
  if (!std::isfinite(costs.message) || costs.message < 0) return {};
  if (costs.num_streams < 1 || costs.num_streams > kMaxStreams) return {};
  return costs;
}

}  // namespace

std::string CostCache::path_of(const std::string& group) const {
  return join_path(folder_, concat("links-", sha256_hex(group).substr(0, 16), ".txt"));
}

std::optional<LinkCosts> CostCache::load(const std::string& group, Clock::time_point now) {
  if (folder_.empty()) return {};
  try {
    if (!env_.exists(path_of(group))) return {};
    std::istringstream text(read_text(env_, path_of(group)));
    std::string format, its_group;
    int64_t measured = 0;
    if (!std::getline(text, format) || format != kFormat) return {};
    if (!std::getline(text, its_group) || its_group != group || !(text >> measured)) return {};
    const int64_t age = seconds_since_epoch(now) - measured;
    if (age < 0 || age > std::chrono::seconds(kMaxAge).count()) return {};
    return parse_costs(text);
  } catch (const Error& error) {
    log_warning("link costs of earlier runs: ", error.what());
    return {};
  }
}

void CostCache::store(const std::string& group, const LinkCosts& costs,
                      Clock::time_point now) noexcept {
  if (folder_.empty()) return;
  try {
    char values[128];
    std::snprintf(values, sizeof(values), "%.9g %.9g %.9g %.9g %d", costs.latency, costs.message,
                  costs.ring_byte, costs.exchange_byte, costs.num_streams);
    env_.make_folders(folder_);
    write_text(env_, path_of(group),
               concat(kFormat, "\n", group, "\n", seconds_since_epoch(now), "\n", values, "\n"));
  } catch (const std::exception& error) {
    log_warning("link costs are measured anew at every start: ", error.what());
  }
}

}  // namespace deepseek_train::collectives
