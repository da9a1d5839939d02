#include "collectives/transport/tcp/lobby.h"

#include <poll.h>

#include <algorithm>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"

namespace deepseek_train::collectives {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto kPatience = 1s;
constexpr auto kSleep = 10ms;        // also how late an interrupt may come
constexpr size_t kMaxWaiting = 256;  // more strangers than this wait in the system's queue
constexpr size_t kMaxRefusals = 4;

}  // namespace

std::optional<Visitor> Lobby::next(Deadline deadline, const Interrupt& interrupt) {
  std::optional<Visitor> ready;
  for (;;) {
    if (interrupt) interrupt();
    let_in();
    for (auto waiting = waiting_.begin(); waiting != waiting_.end() && !ready;)
      waiting = attend(*waiting, ready) ? std::next(waiting) : waiting_.erase(waiting);
    if (ready || Clock::now() >= deadline) return ready;
    sleep(deadline);
  }
}

void Lobby::let_in() {
  while (waiting_.size() < kMaxWaiting) {
    UniqueFd socket = try_accept(listener_);
    if (!socket) return;
    Waiting& waiting = waiting_.emplace_back();
    waiting.patience = Clock::now() + kPatience;
    waiting.visitor.address = peer_address(socket);
    waiting.visitor.stream = streams_.accept(std::move(socket));
    waiting.visitor.greeting.resize(greeting_bytes_);
  }
}

bool Lobby::attend(Waiting& waiting, std::optional<Visitor>& ready) try {
  if (!waiting.has_shaken_hands) waiting.has_shaken_hands = waiting.visitor.stream->try_handshake();
  if (waiting.has_shaken_hands) {
    waiting.num_greeted += waiting.visitor.stream->try_recv(
        std::span(waiting.visitor.greeting).subspan(waiting.num_greeted));
    if (waiting.num_greeted == greeting_bytes_) {
      ready = std::move(waiting.visitor);
      return false;
    }
  }
  if (Clock::now() < waiting.patience) return true;
  turn_away(waiting.visitor.address, "it stayed silent for a second");
  return false;
} catch (const Error& error) {
  turn_away(waiting.visitor.address, error.what());
  return false;
}

void Lobby::sleep(Deadline deadline) {
  std::vector<pollfd> poll_fds = {{listener_.get(), POLLIN, 0}};
  for (const auto& waiting : waiting_) {
    const short events =
        waiting.has_shaken_hands ? short{POLLIN} : waiting.visitor.stream->wanted_events();
    poll_fds.push_back({waiting.visitor.stream->socket().get(), events, 0});
  }
  ::poll(poll_fds.data(), poll_fds.size(), poll_timeout(std::min(deadline, Clock::now() + kSleep)));
}

void Lobby::turn_away(const std::string& address, const std::string& reason) {
  log_warning("turned away a connection from ", address, ": ", reason);
  if (refusals_.size() == kMaxRefusals) refusals_.erase(refusals_.begin());
  refusals_.push_back(concat(address, ": ", reason));
}

std::string Lobby::refusals() const {
  std::string text;
  for (const auto& refusal : refusals_) text += (text.empty() ? "; turned away: " : "; ") + refusal;
  return text;
}

}  // namespace deepseek_train::collectives
