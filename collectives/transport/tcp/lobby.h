// The door of a listener: who comes in has proven who it is and has said what it wants.
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "collectives/transport/tcp/stream.h"

namespace deepseek_train::collectives {

struct Visitor {
  std::unique_ptr<Stream> stream;
  std::vector<std::byte> greeting;  // its first bytes; untrusted unless the stream is proven
  std::string address;
};

// Every connection first shakes hands, then sends a greeting of fixed size; it has one second for
// both, and all are attended to side by side, so that a stranger delays nobody. No byte of a peer
// that fails its handshake is interpreted. One thread.
class Lobby {
 public:
  // The listener and the factory must outlive the lobby.
  Lobby(const UniqueFd& listener, StreamFactory& streams, size_t greeting_bytes)
      : listener_(listener), streams_(streams), greeting_bytes_(greeting_bytes) {}

  // The next visitor; none once the deadline has passed.
  std::optional<Visitor> next(Deadline deadline, const Interrupt& interrupt = {});
  // Logs why a visitor goes again, and keeps the last few reasons for refusals().
  void turn_away(const std::string& address, const std::string& reason);
  // "; turned away: 10.0.0.7: no certificate", or empty; to be added to an error's text.
  std::string refusals() const;

 private:
  struct Waiting {
    Visitor visitor;
    Deadline patience;
    bool has_shaken_hands = false;
    size_t num_greeted = 0;
  };

  void let_in();
  // True if it is still waiting.
  bool attend(Waiting& waiting, std::optional<Visitor>& ready);
  void sleep(Deadline deadline);

  const UniqueFd& listener_;
  StreamFactory& streams_;
  const size_t greeting_bytes_;
  std::list<Waiting> waiting_;
  std::vector<std::string> refusals_;
};

}  // namespace deepseek_train::collectives
