// TCP sockets, with a deadline on everything that may block.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "deepseek_train/core/unique_fd.h"

namespace deepseek_train::collectives {

using Deadline = std::chrono::steady_clock::time_point;

struct Endpoint {
  std::string host;  // name or numeric address
  int port = 0;
};

enum class Interfaces { kLoopback, kAll };

// Listens; port 0 lets the system choose one. Throws Unavailable (port taken, with what to do).
UniqueFd listen_on(Interfaces interfaces, int port);
int port_of(const UniqueFd& listener);

// Connects, again and again until the deadline while nobody listens there. Throws Timeout naming
// the endpoint, NotFound for a host that does not resolve, and what `interrupt` throws.
UniqueFd connect_to(const Endpoint& endpoint, Deadline deadline,
                    const std::function<void()>& interrupt = {});
// A connection that waits, or no descriptor if there is none now.
UniqueFd try_accept(const UniqueFd& listener);
// The numeric address at the other end.
std::string peer_address(const UniqueFd& socket);
// True for 127.0.0.0/8, ::1 and names that resolve to nothing else.
bool is_loopback(const std::string& host);

// Milliseconds for poll() until the deadline, 0 once it has passed.
int poll_timeout(Deadline deadline);

}  // namespace deepseek_train::collectives
