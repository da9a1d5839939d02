// Floats to what travels, and back.
#pragma once

#include <cstddef>

#include "deepseek_train/collectives/compressed.h"

namespace deepseek_train::collectives {

// Bytes on the wire of `count` values. Only the last run of a buffer may end within a block.
size_t wire_bytes(WireFormat format, size_t count);

// residual[i] = values[i] - what decompress will give, 0 where that is not finite. `residual` may
// be null. No alignment is needed. The result depends on the values only, not on the processor.
void compress(WireFormat format, const float* values, size_t count, std::byte* wire,
              float* residual);
void decompress(WireFormat format, const std::byte* wire, float* values, size_t count);

}  // namespace deepseek_train::collectives
