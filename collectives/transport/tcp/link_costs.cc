#include "collectives/transport/tcp/link_costs.h"

#include <algorithm>
#include <bit>
#include <cstdio>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

// How much longer bytes take where links stand idle between rounds.
constexpr double kStopAndGo = 1.25;

std::string in_microseconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f us", seconds * 1e6);
  return text;
}

std::string as_rate(double seconds_per_byte) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f MB/s", 1e-6 / seconds_per_byte);
  return text;
}

}  // namespace

std::string_view name_of(Way way) {
  switch (way) {
    case Way::kOnce: return "everything to everybody";
    case Way::kDoubling: return "recursive doubling";
    case Way::kHalving: return "recursive halving and doubling";
    case Way::kDirect: return "direct exchange of slices";
    case Way::kRing: return "ring";
  }
  return "?";
}

double predict_seconds(Way way, const LinkCosts& costs, int num_ranks, size_t bytes) {
  const double n = num_ranks, s = static_cast<double>(bytes);
  const double rounds = std::bit_width(static_cast<unsigned>(num_ranks) - 1);
  const double to_all = costs.latency + (n - 2) * costs.message;
  const double both_passes = 2 * (n - 1) / n * s;  // what an optimal way sends
  switch (way) {
    case Way::kOnce: return to_all + (n - 1) * s * costs.exchange_byte;
    case Way::kDoubling: return rounds * (costs.latency + kStopAndGo * s * costs.ring_byte);
    case Way::kHalving:
      return 2 * rounds * costs.latency + kStopAndGo * both_passes * costs.ring_byte;
    case Way::kDirect: return 2 * to_all + both_passes * costs.exchange_byte;
    case Way::kRing: return 2 * (n - 1) * costs.latency + both_passes * costs.ring_byte;
  }
  throw Internal("an unknown way of an all_reduce");
}

Way choose_way(const std::vector<Way>& ways, const LinkCosts& costs, int num_ranks, size_t bytes) {
  return *std::min_element(ways.begin(), ways.end(), [&](Way a, Way b) {
    return predict_seconds(a, costs, num_ranks, bytes) <
           predict_seconds(b, costs, num_ranks, bytes);
  });
}

std::string explain_choice(const std::vector<Way>& ways, const LinkCosts& costs, int num_ranks,
                           size_t bytes) {
  std::string text = "predicted";
  for (const Way way : ways)
    text += concat(way == ways.front() ? ": " : ", ", name_of(way), " ",
                   in_microseconds(predict_seconds(way, costs, num_ranks, bytes)));
  text += concat("; a message takes ", in_microseconds(costs.latency), ", each further one ",
                 in_microseconds(costs.message), ", to the neighbour go ", as_rate(costs.ring_byte),
                 ", to all ", as_rate(costs.exchange_byte));
  if (costs.num_streams > 1) text += concat(", over ", costs.num_streams, " connections a pair");
  return text;
}

}  // namespace deepseek_train::collectives
