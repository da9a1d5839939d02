// send and recv through the sender's mailbox.
#pragma once

#include <cstddef>
#include <span>

#include "collectives/transport/shm/group.h"

namespace deepseek_train::collectives {

// A message travels a piece at a time; each piece is written when the last has been taken. recv
// throws InvalidArgument if the sender sends another size. Both throw what ShmGroup::wait_for does.
void send_pieces(ShmGroup& group, std::span<const std::byte> bytes, int to);
void recv_pieces(ShmGroup& group, std::span<std::byte> bytes, int from);

}  // namespace deepseek_train::collectives
