// Making the connections of a mesh.
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "collectives/transport/tcp/mesh.h"
#include "collectives/transport/tcp/striped_stream.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

using Clock = std::chrono::steady_clock;
constexpr uint64_t kMagic = 0x3330'4853'454d'5344;  // "DSMESH03"

}  // namespace

// Both ends send it first, so both know whom they talk to.
struct TcpMesh::Hello {
  uint64_t magic = kMagic;
  uint64_t key = 0;
  int64_t pid = 0;
  uint64_t process_key = 0;
  int32_t rank = 0;
  int32_t size = 0;
  Channel channel = Channel::kData;
  int32_t stream = 0;
  char host[56] = {};
};

TcpMesh::TcpMesh(MeshOptions options, const UniqueFd& listener, const Interrupt& interrupt)
    : options_(std::move(options)),
      host_(this_host()),
      renewal_time_(options_.streams->renewal_time()) {
  const Deadline deadline = Clock::now() + timeout();
  Connections made;
  made.data.resize(size());
  for (auto& streams : made.data) streams.resize(options_.num_streams);
  made.control.resize(size());
  made.processes.resize(size());
  made.processes[rank()] = {::getpid(), host_.name, host_.process_key};
  // In rank order each waits only for lower ranks, of which rank 0 waits for none.
  connect_lower(made, deadline, interrupt);
  accept_higher(made, listener, deadline, interrupt);
  for (auto& streams : made.data) data_.push_back(make_striped_stream(std::move(streams)));
  for (const auto& endpoint : options_.endpoints) hosts_.push_back(endpoint.host);
  control_ =
      std::make_unique<ControlPlane>(rank(), std::move(made.processes), std::move(made.control));
}

TcpMesh::Hello TcpMesh::hello(Channel channel, int stream) const {
  Hello mine;
  mine.stream = stream;
  mine.key = options_.key;
  mine.pid = ::getpid();
  mine.process_key = host_.process_key;
  mine.rank = rank();
  mine.size = size();
  mine.channel = channel;
  std::strncpy(mine.host, host_.name.c_str(), sizeof(mine.host) - 1);
  return mine;
}

void TcpMesh::connect_lower(Connections& made, Deadline deadline, const Interrupt& interrupt) {
  for (int peer = 0; peer < rank(); ++peer) {
    for (int stream = 0; stream < options_.num_streams; ++stream)
      call(made, peer, Channel::kData, stream, deadline, interrupt);
    call(made, peer, Channel::kControl, 0, deadline, interrupt);
  }
}

void TcpMesh::call(Connections& made, int peer, Channel channel, int stream_number,
                   Deadline deadline, const Interrupt& interrupt) try {
  const Endpoint& endpoint = options_.endpoints[peer];
  auto stream =
      connect_stream(*options_.streams, endpoint, options_.launch_ranks[peer], deadline, interrupt);
  const Hello mine = hello(channel, stream_number);
  Hello theirs{};
  const bool ok =
      write_all(*stream, std::as_bytes(std::span(&mine, 1)), deadline, interrupt) &&
      read_all(*stream, std::as_writable_bytes(std::span(&theirs, 1)), deadline, interrupt);
  DST_CHECK_AS(Timeout, ok, "rank ", peer, " at ", endpoint.host, ":", endpoint.port,
               " closed the connection or did not answer within ", timeout().count(), " ms");
  DST_CHECK_AS(DataCorruption,
               theirs.magic == kMagic && theirs.key == options_.key && theirs.rank == peer &&
                   theirs.channel == channel && theirs.stream == stream_number,
               "what answers at ", endpoint.host, ":", endpoint.port, " is not rank ", peer,
               " of this job");
  store(made, theirs, std::move(stream));
} catch (const PermissionDenied& error) {
  throw PermissionDenied(concat("rank ", rank(), " called rank ", peer, " at ",
                                options_.endpoints[peer].host, ":", options_.endpoints[peer].port,
                                ", and ", error.what()));
}

void TcpMesh::accept_higher(Connections& made, const UniqueFd& listener, Deadline deadline,
                            const Interrupt& interrupt) {
  Lobby lobby(listener, *options_.streams, sizeof(Hello));
  for (int missing = (options_.num_streams + 1) * (size() - 1 - rank()); missing > 0;) {
    auto visitor = lobby.next(deadline, interrupt);
    if (!visitor) throw_missing(made, lobby.refusals());
    Hello theirs;
    std::memcpy(&theirs, visitor->greeting.data(), sizeof(theirs));
    if (const auto objection = objection_to(*visitor, theirs, made); !objection.empty()) {
      lobby.turn_away(visitor->address, objection);
      continue;
    }
    const Hello mine = hello(theirs.channel, theirs.stream);
    if (!write_all(*visitor->stream, std::as_bytes(std::span(&mine, 1)), deadline, interrupt))
      continue;
    store(made, theirs, std::move(visitor->stream));
    --missing;
  }
}

std::string TcpMesh::objection_to(const Visitor& visitor, const Hello& hello,
                                  Connections& made) const {
  if (hello.magic != kMagic || hello.key != options_.key || hello.size != size() ||
      hello.rank <= rank() || hello.rank >= size() || hello.channel > Channel::kControl ||
      hello.stream < 0 ||
      hello.stream >= (hello.channel == Channel::kData ? options_.num_streams : 1))
    return "it is no rank of this group";
  const int proven = visitor.stream->proven_rank();
  if (proven != Stream::kUnproven && proven != options_.launch_ranks[hello.rank])
    return concat("it says it is rank ", options_.launch_ranks[hello.rank],
                  " of the launch, and its certificate says rank ", proven);
  return place_of(made, hello) ? concat("rank ", hello.rank, " is already here") : "";
}

void TcpMesh::store(Connections& made, const Hello& hello, std::unique_ptr<Stream> stream) {
  made.processes[hello.rank] = {hello.pid,
                                std::string(hello.host, ::strnlen(hello.host, sizeof(hello.host))),
                                hello.process_key};
  place_of(made, hello) = std::move(stream);
}

std::unique_ptr<Stream>& TcpMesh::place_of(Connections& made, const Hello& hello) {
  if (hello.channel == Channel::kControl) return made.control[hello.rank];
  return made.data[hello.rank][hello.stream];
}

bool TcpMesh::has_all(const Connections& made, int peer) {
  const auto& data = made.data[peer];
  return made.control[peer] && std::all_of(data.begin(), data.end(),
                                           [](const auto& stream) { return stream != nullptr; });
}

void TcpMesh::throw_missing(const Connections& made, const std::string& refusals) const {
  std::string missing;
  for (int peer = rank() + 1; peer < size(); ++peer) {
    if (!has_all(made, peer)) missing += (missing.empty() ? "" : ", ") + std::to_string(peer);
  }
  throw Timeout(concat("rank(s) ", missing, " did not connect to rank ", rank(), " within ",
                       timeout().count(), " ms", refusals));
}

}  // namespace deepseek_train::collectives
