// Reading other processes' private memory (process_vm_readv).
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "collectives/transport/shm/group.h"

namespace deepseek_train::collectives {

class PeerMemory {
 public:
  // Collective: every rank tries to read a word of every other; permitted only if all could, so all
  // ranks decide alike. Takes two steps. Containers often forbid it (ptrace permission).
  void probe(ShmGroup& group);
  bool is_permitted() const { return is_permitted_; }

  // Copies `to.size()` bytes from an address of the rank's process; one copy, done by the kernel.
  // Throws Unavailable if the process is gone or the memory is not mapped.
  static void read(const ShmGroup& group, int rank, uint64_t address, std::span<std::byte> to);

 private:
  bool is_permitted_ = false;
};

}  // namespace deepseek_train::collectives
