// Names of calls, for messages.
#pragma once

#include <string>
#include <string_view>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::collectives {

// "all_reduce", "reduce_scatter", ...
std::string_view name_of(Collective kind);

}  // namespace deepseek_train::collectives
