// Groups of calls: small neighbours travel together.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "deepseek_train/collectives/collective_call.h"

namespace deepseek_train::collectives {

// Performs the calls in order. Consecutive all_reduces of one type and operation that are together
// small enough are copied into `scratch`, performed as one call and copied back: since an element's
// sum does not depend on what lies around it, the results are those of single calls.
void run_coalesced(std::span<const CollectiveCall> calls, std::vector<std::byte>& scratch,
                   const std::function<void(const CollectiveCall&)>& perform);

}  // namespace deepseek_train::collectives
