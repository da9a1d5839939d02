// Collectives that are only a matter of who gives which bytes to whom.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "deepseek_train/collectives/collective_call.h"

namespace deepseek_train::collectives {

// By rank: what goes to it and what comes from it.
struct ExchangeParts {
  std::vector<std::span<const std::byte>> out;
  std::vector<std::span<std::byte>> in;
};

// The parts of an all_to_all, gather, scatter, or of an all_gather with uneven parts, on `rank` of
// `size`. Of a reduce_scatter only `out`: where the incoming parts go is the caller's affair.
ExchangeParts parts_of(const CollectiveCall& call, int rank, int size);

// A reduce_scatter with uneven parts: `exchange` brings every rank all ranks' values of its part,
// into `scratch`, which are then reduced in tree order.
void reduce_scatter_by_exchange(const CollectiveCall& call, int rank, int size,
                                std::vector<std::byte>& scratch,
                                const std::function<void(const ExchangeParts&)>& exchange);

}  // namespace deepseek_train::collectives
