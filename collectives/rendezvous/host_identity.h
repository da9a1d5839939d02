// Which machine a rank runs on, as far as others must know.
#pragma once

#include <cstdint>
#include <string>

namespace deepseek_train::collectives {

// Keys are hashes, equal on two ranks if and only if they share the thing named.
struct HostIdentity {
  std::string name;          // of the host, for messages
  uint64_t memory_key = 0;   // /dev/shm of one running kernel
  uint64_t process_key = 0;  // process numbers of one running kernel and pid namespace
};

HostIdentity this_host();

}  // namespace deepseek_train::collectives
