// One stream over several connections, for links on which one connection alone gets only a part of
// the bandwidth.
#pragma once

#include <memory>
#include <vector>

#include "collectives/transport/tcp/stream.h"

namespace deepseek_train::collectives {

// Bytes go in stripes of 64 KiB to one connection after another, so both ends know where each lies
// and nothing is added. The streams, one or more, have shaken hands; both ends list them in the
// same order. The first proves the rank.
std::unique_ptr<Stream> make_striped_stream(std::vector<std::unique_ptr<Stream>> streams);

}  // namespace deepseek_train::collectives
