#include "collectives/rendezvous/address_exchange.h"

#include <cstring>

#include "collectives/transport/tcp/lobby.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/core/sha256.h"

namespace deepseek_train::collectives {
namespace {

using Clock = std::chrono::steady_clock;
constexpr uint64_t kMagic = 0x3130'5a44'4e54'5344;  // "DSTNDZ01"

struct Request {
  uint64_t magic = kMagic;
  uint64_t job = 0;
  int32_t rank = 0;
  int32_t size = 0;
  int32_t port = 0;
  int32_t padding = 0;
};

// Sent before the table; a text instead of the table if rank 0 refuses.
struct Reply {
  uint64_t magic = kMagic;
  uint32_t is_about_identity = 0;  // the refusal
  char refusal[244] = {};
};

struct Entry {
  char host[60] = {};
  int32_t port = 0;
};

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}
template <typename T>
std::span<std::byte> writable_bytes_of(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

void tell(Stream& stream, const std::string& refusal, bool is_about_identity) {
  Reply reply{.is_about_identity = is_about_identity};
  std::strncpy(reply.refusal, refusal.c_str(), sizeof(reply.refusal) - 1);
  write_all(stream, bytes_of(reply), Clock::now() + std::chrono::seconds(1));
}

[[noreturn]] void refuse(Stream& stream, const std::string& reason) {
  tell(stream, reason, false);
  throw InvalidArgument(reason);
}

// Rank 0: the others' connections, by rank, and what they said.
class Desk {
 public:
  Desk(const LaunchInfo& launch, std::chrono::milliseconds timeout, StreamFactory& factory)
      : launch_(launch),
        timeout_(timeout),
        factory_(factory),
        streams_(launch.size),
        entries_(launch.size) {}

  std::vector<Entry> serve(Interfaces interfaces, int own_port) {
    const UniqueFd listener = listen_on(interfaces, launch_.rendezvous_port);
    const Deadline deadline = Clock::now() + timeout_;
    Lobby lobby(listener, factory_, sizeof(Request));
    set_entry(0, launch_.rendezvous_host, own_port);
    for (int present = 1; present < launch_.size;) {
      auto visitor = lobby.next(deadline);
      if (!visitor) throw_missing(lobby.refusals());
      present += admit(*visitor, lobby);
    }
    for (int rank = 1; rank < launch_.size; ++rank) {
      write_all(*streams_[rank], bytes_of(Reply{}), deadline);
      write_all(*streams_[rank], std::as_bytes(std::span(entries_)), deadline);
    }
    return entries_;
  }

 private:
  // True if it was a rank of this job.
  bool admit(Visitor& visitor, Lobby& lobby) {
    Request request;
    std::memcpy(&request, visitor.greeting.data(), sizeof(request));
    if (request.magic != kMagic || request.job != job_key(launch_.job_id)) {
      lobby.turn_away(visitor.address, "it is no rank of this job");
      return false;
    }
    const int proven = visitor.stream->proven_rank();
    if (proven != Stream::kUnproven && proven != request.rank) {
      const auto reason = concat("it says it is rank ", request.rank,
                                 ", and its certificate says rank ", proven);
      tell(*visitor.stream, reason, true);
      lobby.turn_away(visitor.address, reason);
      return false;
    }
    if (request.size != launch_.size || request.rank < 1 || request.rank >= launch_.size)
      refuse(*visitor.stream,
             concat("a rank at ", visitor.address, " says it is rank ", request.rank, " of ",
                    request.size, "; rank 0 counts ", launch_.size, " ranks"));
    if (streams_[request.rank])
      refuse(*visitor.stream, concat("two processes say they are rank ", request.rank,
                                     "; the second is at ", visitor.address));
    set_entry(request.rank, visitor.address, request.port);
    streams_[request.rank] = std::move(visitor.stream);
    return true;
  }

  void set_entry(int rank, const std::string& host, int port) {
    DST_CHECK(host.size() < sizeof(Entry::host), "host name of ", host.size(),
              " letters is too long: ", host);
    std::strncpy(entries_[rank].host, host.c_str(), sizeof(Entry::host) - 1);
    entries_[rank].port = port;
  }

  [[noreturn]] void throw_missing(const std::string& refusals) const {
    std::string missing;
    for (int rank = 1; rank < launch_.size; ++rank) {
      if (!streams_[rank]) missing += (missing.empty() ? "" : ", ") + std::to_string(rank);
    }
    throw Timeout(concat(
        "rank(s) ", missing, " of ", launch_.size, " did not reach the rendezvous at ",
        launch_.rendezvous_host, ":", launch_.rendezvous_port, " within ", timeout_.count(),
        " ms; did they start, and do they have the same MASTER_ADDR and MASTER_PORT?", refusals));
  }

  const LaunchInfo& launch_;
  const std::chrono::milliseconds timeout_;
  StreamFactory& factory_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<Entry> entries_;
};

std::vector<Entry> ask_rank_zero(const LaunchInfo& launch, int port,
                                 std::chrono::milliseconds timeout, StreamFactory& streams) try {
  const Deadline deadline = Clock::now() + timeout;
  const Endpoint endpoint{launch.rendezvous_host, launch.rendezvous_port};
  const auto stream = connect_stream(streams, endpoint, 0, deadline);
  const Request request{
      .job = job_key(launch.job_id), .rank = launch.rank, .size = launch.size, .port = port};
  Reply reply{};
  std::vector<Entry> entries(launch.size);
  // A reply comes when the last rank has come, a moment after which rank 0 gives up itself; leave
  // it time to say so.
  const Deadline patience = deadline + std::chrono::seconds(1);
  const bool ok = write_all(*stream, bytes_of(request), deadline) &&
                  read_all(*stream, writable_bytes_of(reply), patience);
  DST_CHECK_AS(Timeout, ok, "rendezvous at ", endpoint.host, ":", endpoint.port,
               " did not answer within ", timeout.count(),
               " ms; rank 0 gave up or serves another job");
  DST_CHECK_AS(DataCorruption, reply.magic == kMagic, "what answers at ", endpoint.host, ":",
               endpoint.port, " is not a rank 0 of ours; choose another MASTER_PORT");
  reply.refusal[sizeof(reply.refusal) - 1] = '\0';
  DST_CHECK_AS(PermissionDenied, !reply.is_about_identity, "was refused: ", reply.refusal);
  DST_CHECK(reply.refusal[0] == '\0', reply.refusal);
  DST_CHECK_AS(Timeout, read_all(*stream, std::as_writable_bytes(std::span(entries)), patience),
               "rank 0 stopped in the middle of the address table");
  return entries;
} catch (const PermissionDenied& error) {
  throw PermissionDenied(concat("rank ", launch.rank, " called rank 0 at the rendezvous ",
                                launch.rendezvous_host, ":", launch.rendezvous_port, ", and ",
                                error.what()));
}

}  // namespace

uint64_t job_key(const std::string& job_id) {
  return std::stoull(sha256_hex(job_id).substr(0, 16), nullptr, 16);
}

std::vector<Endpoint> exchange_addresses(const LaunchInfo& launch, int listener_port,
                                         Interfaces interfaces, std::chrono::milliseconds timeout,
                                         StreamFactory& streams) {
  auto entries = launch.rank == 0 ? Desk(launch, timeout, streams).serve(interfaces, listener_port)
                                  : ask_rank_zero(launch, listener_port, timeout, streams);
  std::vector<Endpoint> endpoints;
  for (auto& entry : entries) {
    entry.host[sizeof(entry.host) - 1] = '\0';
    endpoints.push_back({entry.host, entry.port});
  }
  return endpoints;
}

}  // namespace deepseek_train::collectives
