// What messages cost between the ranks of a group, and which way of an all_reduce that favours.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace deepseek_train::collectives {

// The ways of an all_reduce over streams. All but the ring sum in tree order, to the same bits.
enum class Way {
  kOnce,      // everything to everybody
  kDoubling,  // everything to log2 n partners, one after another
  kHalving,   // halves, quarters, ... to log2 n partners, and back
  kDirect,    // slice r to rank r, its sum to everybody
  kRing,      // slices round the ring, twice
};
std::string_view name_of(Way way);

// Seconds, of the slowest rank, while all ranks do the same.
struct LinkCosts {
  double latency = 20e-6;         // a small message to a neighbour
  double message = 5e-6;          // each further small message of the same moment
  double ring_byte = 0.4e-9;      // a byte, when every rank sends to its right neighbour
  double exchange_byte = 0.4e-9;  // a byte, when every rank sends to all others at once
  int num_streams = 1;            // connections of a pair with which that is so

  // What keeps a link busy: eight messages' latency, but no less than a switch's port takes.
  size_t bytes_under_way() const {
    return std::max(size_t{256} << 10, static_cast<size_t>(8 * latency / ring_byte));
  }
};

// Seconds of an all_reduce of `bytes` over `num_ranks` >= 2:
//   once      latency + (n - 2) message + (n - 1) bytes exchange_byte
//   doubling  log2 n (latency + 1.25 bytes ring_byte)        its rounds do not overlap,
//   halving   2 log2 n latency + 1.25 * 2 (n - 1)/n bytes ring_byte     nor do these
//   direct    2 (latency + (n - 2) message) + 2 (n - 1)/n bytes exchange_byte
//   ring      2 (n - 1) latency + 2 (n - 1)/n bytes ring_byte
double predict_seconds(Way way, const LinkCosts& costs, int num_ranks, size_t bytes);

// The fastest of `ways`, which must not be empty; of equals the first.
Way choose_way(const std::vector<Way>& ways, const LinkCosts& costs, int num_ranks, size_t bytes);

// "predicted: once 55 us, direct 90 us; a message 20 us, ..."
std::string explain_choice(const std::vector<Way>& ways, const LinkCosts& costs, int num_ranks,
                           size_t bytes);

}  // namespace deepseek_train::collectives
