#include "collectives/transport/tcp/striped_stream.h"

#include <poll.h>

#include <algorithm>
#include <array>

namespace deepseek_train::collectives {
namespace {

constexpr size_t kStripeBytes = 64 << 10;
constexpr size_t kMaxParts = 8;  // handed on at a time

// As many bytes of the parts, from `begin` on, as fit into `room` and kMaxParts.
class Window {
 public:
  Window(ByteSpans parts, size_t begin, size_t room) {
    for (auto part : parts) {
      const size_t skipped = std::min(begin, part.size());
      begin -= skipped;
      part = part.subspan(skipped, std::min(part.size() - skipped, room));
      if (part.empty() || num_parts_ == kMaxParts) continue;
      parts_[num_parts_++] = part;
      room -= part.size();
    }
  }
  ByteSpans parts() const { return {parts_.data(), num_parts_}; }

 private:
  std::array<std::span<const std::byte>, kMaxParts> parts_;
  size_t num_parts_ = 0;
};

class StripedStream : public Stream {
 public:
  explicit StripedStream(std::vector<std::unique_ptr<Stream>> streams)
      : streams_(std::move(streams)) {}

  bool try_handshake() override { return true; }

  size_t try_send(ByteSpans parts) override {
    for (size_t total = 0;;) {
      const Window window(parts, total, out_.room());
      if (window.parts().empty()) return total;
      const size_t sent = streams_[out_.stream]->try_send(window.parts());
      if (sent == 0) return total;
      total += sent;
      advance(out_, sent);
    }
  }

  size_t try_recv(std::span<std::byte> bytes) override {
    for (size_t total = 0;;) {
      const auto target = bytes.subspan(total, std::min(bytes.size() - total, in_.room()));
      if (target.empty()) return total;
      const size_t received = streams_[in_.stream]->try_recv(target);
      if (received == 0) return total;
      total += received;
      advance(in_, received);
    }
  }

  void expect(size_t bytes) override { streams_[in_.stream]->expect(std::min(bytes, in_.room())); }

  short wanted_events() const override { return POLLIN; }
  int proven_rank() const override { return streams_.front()->proven_rank(); }
  const UniqueFd& socket() const override { return streams_[in_.stream]->socket(); }
  const UniqueFd& sending_socket() const override {
    return streams_[out_.stream]->sending_socket();
  }

 private:
  struct Position {
    size_t stream = 0;
    size_t offset = 0;  // in its stripe
    size_t room() const { return kStripeBytes - offset; }
  };

  void advance(Position& position, size_t bytes) const {
    position.offset += bytes;
    if (position.room() == 0) position = {(position.stream + 1) % streams_.size(), 0};
  }

  std::vector<std::unique_ptr<Stream>> streams_;
  Position out_, in_;
};

}  // namespace

std::unique_ptr<Stream> make_striped_stream(std::vector<std::unique_ptr<Stream>> streams) {
  if (streams.size() == 1) return std::move(streams.front());
  return std::make_unique<StripedStream>(std::move(streams));
}

}  // namespace deepseek_train::collectives
