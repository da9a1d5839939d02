#include "collectives/rendezvous/waiting_room.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <thread>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/sha256.h"

namespace deepseek_train::collectives {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// Sent as one packet.
struct Ticket {
  int32_t rank = 0;
  int32_t size = 0;
  char group[248] = {};
};

struct Address {
  sockaddr_un address{};
  socklen_t length = 0;
};

// In the abstract name space: it goes with the socket, so a crash leaves nothing behind.
Address address_of(const std::string& job_id) {
  const auto name = concat("dst-waiting-", ::getuid(), "-", sha256_hex(job_id).substr(0, 32));
  Address result;
  result.address.sun_family = AF_UNIX;
  std::memcpy(result.address.sun_path + 1, name.data(), name.size());
  result.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return result;
}

UniqueFd packet_socket() {
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  DST_CHECK_AS(Unavailable, socket, "cannot make a socket: ", std::strerror(errno));
  return socket;
}

bool is_same_user(const UniqueFd& socket) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
         peer.uid == ::getuid();
}

int milliseconds_until(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::max<int64_t>(left, 0));
}

bool is_ready(const UniqueFd& socket, Clock::time_point deadline) {
  pollfd wanted{socket.get(), POLLIN, 0};
  return ::poll(&wanted, 1, milliseconds_until(deadline)) > 0;
}

}  // namespace

WaitingRoom::WaitingRoom(const std::string& job_id, std::chrono::milliseconds patience) {
  const auto deadline = Clock::now() + patience;
  const UniqueFd listener = packet_socket();
  const Address address = address_of(job_id);
  DST_CHECK_AS(Unavailable,
               ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address.address),
                      address.length) == 0 &&
                   ::listen(listener.get(), SOMAXCONN) == 0,
               "cannot open the waiting room of job \"", job_id, "\": ", std::strerror(errno),
               "; does another process call admit() for the same job?");
  while (is_ready(listener, deadline)) {
    UniqueFd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (socket && is_same_user(socket)) waiting_.push_back(std::move(socket));
  }
}

void WaitingRoom::admit(const std::string& group, int first_rank, int size) {
  for (auto& socket : waiting_) {
    Ticket ticket{.rank = first_rank++, .size = size};
    DST_CHECK(group.size() < sizeof(ticket.group), "the group's name has ", group.size(),
              " letters; wanted at most ", sizeof(ticket.group) - 1);
    std::memcpy(ticket.group, group.data(), group.size());
    // A newcomer that is gone shows when the group is made, with its rank.
    ::send(socket.get(), &ticket, sizeof(ticket), MSG_NOSIGNAL);
  }
}

Admission wait_for_admission(const std::string& job_id, std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  const Address address = address_of(job_id);
  for (; Clock::now() < deadline; std::this_thread::sleep_for(5ms)) {
    const UniqueFd socket = packet_socket();
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address.address),
                  address.length) != 0)
      continue;
    Ticket ticket;
    if (!is_same_user(socket) || !is_ready(socket, deadline) ||
        ::recv(socket.get(), &ticket, sizeof(ticket), 0) != sizeof(ticket))
      continue;  // rank 0 closed the room before it saw us
    ticket.group[sizeof(ticket.group) - 1] = '\0';
    return {ticket.group, ticket.rank, ticket.size};
  }
  throw Timeout(concat("job \"", job_id, "\" admitted nobody within ", timeout.count(),
                       " ms; does it still run on this host, and does it call admit()?"));
}

}  // namespace deepseek_train::collectives
