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
  // Elements; of a call with parts of different sizes a hash of what all ranks must agree on.
  uint64_t count = 0;
  uint64_t arena_offset = 0;
  uint32_t arena = 0;  // id of the arena the data lies in, 0 for private memory
  int32_t root = 0;
  uint8_t kind = 0;
  uint8_t dtype = 0;
  uint8_t op = 0;
  uint8_t has_uneven_parts = 0;
  uint32_t line = 0;   // of the call in the user's program
  char file[40] = {};  // its name, without folders; cut if longer
};
static_assert(sizeof(CallSignature) == 80 && std::is_trivially_copyable_v<CallSignature>);

CallSignature sign(const CollectiveCall& call, uint64_t sequence);
// For messages only: send and recv are not compared between ranks.
CallSignature sign_send(size_t bytes, int to);
CallSignature sign_recv(size_t bytes, int from);

// True if the two calls can run with each other; where the data lies, and from where the call was
// made, is each rank's own affair.
bool is_same_call(const CallSignature& a, const CallSignature& b);

// "all_reduce #17 (sum of 1024 float32) at train.cc:88". Safe on bytes from a peer: unknown codes
// are printed as numbers. A signature never filled in is "no call".
std::string describe(const CallSignature& call);

}  // namespace deepseek_train::collectives
