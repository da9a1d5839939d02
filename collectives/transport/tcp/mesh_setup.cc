// Making the connections of a mesh.
#include <unistd.h>

#include <cstring>

#include "collectives/transport/tcp/mesh.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"

namespace deepseek_train::collectives {
namespace {

constexpr uint64_t kMagic = 0x3130'4853'454d'5344;  // "DSMESH01"
constexpr uint32_t kData = 0;
constexpr uint32_t kControl = 1;

}  // namespace

// Both ends send it first, so both know whom they talk to.
struct TcpMesh::Hello {
  uint64_t magic = kMagic;
  uint64_t key = 0;
  int64_t pid = 0;
  int32_t rank = 0;
  int32_t size = 0;
  uint32_t channel = 0;
  char host[60] = {};
};

TcpMesh::TcpMesh(MeshOptions options, const UniqueFd& listener)
    : options_(std::move(options)), peers_(size()) {
  const Deadline deadline = Clock::now() + timeout();
  peers_[rank()].pid = ::getpid();
  peers_[rank()].host = hello(kData).host;
  // In rank order each waits only for lower ranks, of which rank 0 waits for none.
  connect_lower(deadline);
  accept_higher(listener, deadline);
}

TcpMesh::Hello TcpMesh::hello(uint32_t channel) const {
  Hello mine;
  mine.key = options_.key;
  mine.pid = ::getpid();
  mine.rank = rank();
  mine.size = size();
  mine.channel = channel;
  ::gethostname(mine.host, sizeof(mine.host) - 1);
  return mine;
}

void TcpMesh::connect_lower(Deadline deadline) {
  for (int peer = 0; peer < rank(); ++peer) {
    for (const uint32_t channel : {kData, kControl}) {
      if (!greet(peer, channel, connect_to(endpoint(peer), deadline), deadline))
        throw Timeout(concat("rank ", peer, " at ", endpoint(peer).host, ":", endpoint(peer).port,
                             " did not answer within ", timeout().count(), " ms"));
    }
  }
}

bool TcpMesh::greet(int peer, uint32_t channel, UniqueFd socket, Deadline deadline) {
  const Hello mine = hello(channel);
  Hello theirs{};
  if (!write_all(socket, std::as_bytes(std::span(&mine, 1)), deadline) ||
      !read_all(socket, std::as_writable_bytes(std::span(&theirs, 1)), deadline))
    return false;
  DST_CHECK_AS(DataCorruption,
               theirs.magic == kMagic && theirs.key == options_.key && theirs.rank == peer,
               "what answers at ", endpoint(peer).host, ":", endpoint(peer).port, " is not rank ",
               peer, " of this job");
  store(peer, channel, theirs, std::move(socket));
  return true;
}

void TcpMesh::accept_higher(const UniqueFd& listener, Deadline deadline) {
  for (int missing = 2 * (size() - 1 - rank()); missing > 0;) {
    UniqueFd socket = accept_from(listener, deadline);
    if (!socket) throw_missing();
    missing -= admit(std::move(socket), deadline);
  }
}

// False for a stranger, who gets a second and is turned away.
bool TcpMesh::admit(UniqueFd socket, Deadline deadline) {
  Hello theirs{};
  const auto patience = std::min(deadline, Clock::now() + std::chrono::seconds(1));
  const bool is_ours =
      read_all(socket, std::as_writable_bytes(std::span(&theirs, 1)), patience) &&
      theirs.magic == kMagic && theirs.key == options_.key && theirs.size == size() &&
      theirs.rank > rank() && theirs.rank < size() && theirs.channel <= kControl &&
      !(theirs.channel == kData ? peers_[theirs.rank].data : peers_[theirs.rank].control);
  if (!is_ours) {
    log_warning("turned away a connection from ", peer_address(socket),
                ", which is no rank of this job");
    return false;
  }
  const Hello mine = hello(theirs.channel);
  if (!write_all(socket, std::as_bytes(std::span(&mine, 1)), deadline)) return false;
  store(theirs.rank, theirs.channel, theirs, std::move(socket));
  return true;
}

void TcpMesh::store(int peer, uint32_t channel, const Hello& hello, UniqueFd socket) {
  peers_[peer].pid = hello.pid;
  peers_[peer].host.assign(hello.host, ::strnlen(hello.host, sizeof(hello.host)));
  (channel == kData ? peers_[peer].data : peers_[peer].control) = std::move(socket);
}

void TcpMesh::throw_missing() const {
  std::string missing;
  for (int peer = rank() + 1; peer < size(); ++peer) {
    if (!peers_[peer].data || !peers_[peer].control)
      missing += (missing.empty() ? "" : ", ") + std::to_string(peer);
  }
  throw Timeout(concat("rank(s) ", missing, " did not connect to rank ", rank(), " within ",
                       timeout().count(), " ms"));
}

}  // namespace deepseek_train::collectives
