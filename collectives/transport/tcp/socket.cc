#include "collectives/transport/tcp/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>
#include <thread>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using Clock = std::chrono::steady_clock;
using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

bool is_loopback(const sockaddr* address) {
  if (address->sa_family == AF_INET)
    return ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr) >> 24 == 127;
  return address->sa_family == AF_INET6 &&
         IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
}

// Descriptors are non-blocking from the start, and small messages leave at once.
void prepare(const UniqueFd& socket) {
  ::fcntl(socket.get(), F_SETFL, ::fcntl(socket.get(), F_GETFL) | O_NONBLOCK);
  const int one = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

Addresses resolve(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  DST_CHECK_AS(NotFound, error == 0, "cannot resolve host \"", host, "\": ", ::gai_strerror(error),
               "; check MASTER_ADDR and /etc/hosts");
  return {found, &::freeaddrinfo};
}

bool await(int fd, short events, Deadline deadline) {
  pollfd poll_fd{fd, events, 0};
  int ready;
  do ready = ::poll(&poll_fd, 1, poll_timeout(deadline));
  while (ready < 0 && errno == EINTR);
  return ready > 0;
}

// Loopback has no bottleneck to probe for: a congestion control that paces (bbr) halves its speed,
// and what lies in a socket's buffers only leaves the cores' caches (all_reduce of 16 MiB on 4
// ranks: 12 ms with these, 20 ms with the system's, which grow to megabytes). The kernel doubles
// the numbers. Where cubic is not to be had, the system's own choice stays.
void suit_loopback(const UniqueFd& socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  ::getpeername(socket.get(), reinterpret_cast<sockaddr*>(&address), &length);
  if (!is_loopback(reinterpret_cast<const sockaddr*>(&address))) return;
  constexpr std::string_view kControl = "cubic";
  constexpr int kSendBytes = 64 << 10, kReceiveBytes = 128 << 10;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_CONGESTION, kControl.data(), kControl.size());
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &kSendBytes, sizeof(kSendBytes));
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBytes, sizeof(kReceiveBytes));
}

// No descriptor if nobody answers at this address.
UniqueFd try_connect(const addrinfo& address, Deadline deadline) {
  UniqueFd socket(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return {};
  prepare(socket);
  if (::connect(socket.get(), address.ai_addr, address.ai_addrlen) == 0) return socket;
  if (errno != EINPROGRESS) return {};
  const auto patience = std::min(deadline, Clock::now() + std::chrono::seconds(2));
  if (!await(socket.get(), POLLOUT, patience)) return {};
  int error = 0;
  socklen_t length = sizeof(error);
  ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  return error == 0 ? std::move(socket) : UniqueFd();
}

}  // namespace

int poll_timeout(Deadline deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<long>(left, 0, 1'000'000));
}

UniqueFd listen_on(Interfaces interfaces, int port) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int one = 1;
  if (socket) ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(interfaces == Interfaces::kAll ? INADDR_ANY : INADDR_LOOPBACK);
  const bool ok =
      socket && ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
      ::listen(socket.get(), SOMAXCONN) == 0;
  DST_CHECK_AS(Unavailable, ok, "cannot listen on TCP port ", port, ": ", std::strerror(errno),
               "; choose another MASTER_PORT");
  prepare(socket);
  return socket;
}

int port_of(const UniqueFd& listener) {
  sockaddr_in address{};
  socklen_t length = sizeof(address);
  DST_CHECK_AS(Unavailable,
               ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0,
               "getsockname: ", std::strerror(errno));
  return ntohs(address.sin_port);
}

UniqueFd connect_to(const Endpoint& endpoint, Deadline deadline,
                    const std::function<void()>& interrupt) {
  const Addresses addresses = resolve(endpoint.host, endpoint.port);
  for (;;) {
    for (const addrinfo* address = addresses.get(); address; address = address->ai_next) {
      if (UniqueFd socket = try_connect(*address, deadline)) {
        suit_loopback(socket);
        return socket;
      }
    }
    DST_CHECK_AS(Timeout, Clock::now() < deadline, "nobody answered at ", endpoint.host, ":",
                 endpoint.port, "; is rank 0 running, and does a firewall let the port through?");
    if (interrupt) interrupt();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

UniqueFd try_accept(const UniqueFd& listener) {
  UniqueFd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket) return socket;
  prepare(socket);
  suit_loopback(socket);
  return socket;
}

std::string peer_address(const UniqueFd& socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  char text[NI_MAXHOST] = "";
  if (::getpeername(socket.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0)
    ::getnameinfo(reinterpret_cast<sockaddr*>(&address), length, text, sizeof(text), nullptr, 0,
                  NI_NUMERICHOST);
  return text;
}

bool is_loopback(const std::string& host) {
  const Addresses addresses = resolve(host, 0);
  for (const addrinfo* address = addresses.get(); address; address = address->ai_next) {
    if (!is_loopback(address->ai_addr)) return false;
  }
  return true;
}

}  // namespace deepseek_train::collectives
