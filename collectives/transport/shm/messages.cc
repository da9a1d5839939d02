#include "collectives/transport/shm/messages.h"

#include <algorithm>

#include "collectives/transport/shm/copy_bytes.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {

void send_pieces(ShmGroup& group, std::span<const std::byte> bytes, int to) {
  group.open_message(sign_send(bytes.size(), to));
  Mailbox& mailbox = group.layout().mailbox(group.rank());
  Counter& sent = group.layout().sent(group.rank(), to);
  Counter& taken = group.layout().taken(group.rank(), to);
  size_t offset = 0;
  do {
    const size_t piece = std::min(kMailBytes, bytes.size() - offset);
    mailbox.message_bytes = bytes.size();
    copy_bytes(mailbox.data, bytes.data() + offset, piece);
    offset += piece;
    ShmGroup::increment(sent);
    group.wait_for(taken, sent.value(), to);
  } while (offset < bytes.size());
}

void recv_pieces(ShmGroup& group, std::span<std::byte> bytes, int from) {
  group.open_message(sign_recv(bytes.size(), from));
  const Mailbox& mailbox = group.layout().mailbox(from);
  Counter& sent = group.layout().sent(from, group.rank());
  Counter& taken = group.layout().taken(from, group.rank());
  size_t offset = 0;
  do {
    group.wait_for(sent, taken.value() + 1, from);
    DST_CHECK(mailbox.message_bytes == bytes.size(), "recv of ", bytes.size(), " bytes from rank ",
              from, ", which sends ", mailbox.message_bytes, "; both must name the same size; ",
              group.report());
    const size_t piece = std::min(kMailBytes, bytes.size() - offset);
    copy_bytes(bytes.data() + offset, mailbox.data, piece);
    offset += piece;
    ShmGroup::increment(taken);
  } while (offset < bytes.size());
}

}  // namespace deepseek_train::collectives
