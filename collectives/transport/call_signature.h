// What a rank is calling, in a form that can be put into shared memory or on a wire and compared.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

#include "deepseek_train/collectives/communicator.h"

namespace deepseek_train::collectives {

// Fixed layout, in the machine's byte order; all ranks of a launch run the same build.
struct CallSignature {
  uint64_t sequence = 0;  // number of the call on its communicator, from 1
  uint64_t count = 0;
  uint64_t arena_offset = 0;
  uint32_t arena = 0;  // id of the arena the data lies in, 0 for private memory
  int32_t root = 0;
  uint8_t kind = 0;
  uint8_t dtype = 0;
  uint8_t op = 0;
  uint8_t padding[5] = {};
};
static_assert(sizeof(CallSignature) == 40 && std::is_trivially_copyable_v<CallSignature>);

CallSignature sign(const CollectiveCall& call, uint64_t sequence);
// For messages only: send and recv are not compared between ranks.
CallSignature sign_send(size_t bytes, int to);
CallSignature sign_recv(size_t bytes, int from);

// True if the two calls can run with each other; where the data lies is each rank's own affair.
bool is_same_call(const CallSignature& a, const CallSignature& b);

// "all_reduce #17 (sum of 1024 float32)". Safe on bytes from a peer: unknown codes are printed as
// numbers.
std::string describe(const CallSignature& call);

}  // namespace deepseek_train::collectives
