#include "collectives/rendezvous/address_exchange.h"

#include <cstring>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"
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
  char refusal[248] = {};
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

void refuse(const UniqueFd& socket, const std::string& reason) {
  Reply reply;
  std::strncpy(reply.refusal, reason.c_str(), sizeof(reply.refusal) - 1);
  write_all(socket, bytes_of(reply), Clock::now() + std::chrono::seconds(1));
  throw InvalidArgument(reason);
}

// Rank 0: the others' connections, by rank, and what they said.
class Desk {
 public:
  Desk(const LaunchInfo& launch, std::chrono::milliseconds timeout)
      : launch_(launch), timeout_(timeout), sockets_(launch.size), entries_(launch.size) {}

  std::vector<Entry> serve(Interfaces interfaces, int own_port) {
    const UniqueFd listener = listen_on(interfaces, launch_.rendezvous_port);
    const Deadline deadline = Clock::now() + timeout_;
    set_entry(0, launch_.rendezvous_host, own_port);
    for (int present = 1; present < launch_.size;) {
      UniqueFd socket = accept_from(listener, deadline);
      if (!socket) throw_missing();
      present += admit(std::move(socket), deadline);
    }
    for (int rank = 1; rank < launch_.size; ++rank) {
      write_all(sockets_[rank], bytes_of(Reply{}), deadline);
      write_all(sockets_[rank], std::as_bytes(std::span(entries_)), deadline);
    }
    return entries_;
  }

 private:
  // True if it was a rank of this job. One that connects and stays silent gets a second, so that it
  // cannot hold up the rest.
  bool admit(UniqueFd socket, Deadline deadline) {
    Request request{};
    const auto patience = std::min(deadline, Clock::now() + std::chrono::seconds(1));
    if (!read_all(socket, writable_bytes_of(request), patience) || request.magic != kMagic ||
        request.job != job_key(launch_.job_id)) {
      log_warning("rendezvous: turned away ", peer_address(socket),
                  ", which is no rank of this job");
      return false;
    }
    if (request.size != launch_.size || request.rank < 1 || request.rank >= launch_.size)
      refuse(socket, concat("a rank at ", peer_address(socket), " says it is rank ", request.rank,
                            " of ", request.size, "; rank 0 counts ", launch_.size, " ranks"));
    if (sockets_[request.rank])
      refuse(socket, concat("two processes say they are rank ", request.rank, "; the second is at ",
                            peer_address(socket)));
    set_entry(request.rank, peer_address(socket), request.port);
    sockets_[request.rank] = std::move(socket);
    return true;
  }

  void set_entry(int rank, const std::string& host, int port) {
    DST_CHECK(host.size() < sizeof(Entry::host), "host name of ", host.size(),
              " letters is too long: ", host);
    std::strncpy(entries_[rank].host, host.c_str(), sizeof(Entry::host) - 1);
    entries_[rank].port = port;
  }

  [[noreturn]] void throw_missing() const {
    std::string missing;
    for (int rank = 1; rank < launch_.size; ++rank) {
      if (!sockets_[rank]) missing += (missing.empty() ? "" : ", ") + std::to_string(rank);
    }
    throw Timeout(
        concat("rank(s) ", missing, " of ", launch_.size, " did not reach the rendezvous at ",
               launch_.rendezvous_host, ":", launch_.rendezvous_port, " within ", timeout_.count(),
               " ms; did they start, and do they have the same MASTER_ADDR and MASTER_PORT?"));
  }

  const LaunchInfo& launch_;
  const std::chrono::milliseconds timeout_;
  std::vector<UniqueFd> sockets_;
  std::vector<Entry> entries_;
};

std::vector<Entry> ask_rank_zero(const LaunchInfo& launch, int port,
                                 std::chrono::milliseconds timeout) {
  const Deadline deadline = Clock::now() + timeout;
  const Endpoint endpoint{launch.rendezvous_host, launch.rendezvous_port};
  const UniqueFd socket = connect_to(endpoint, deadline);
  const Request request{
      .job = job_key(launch.job_id), .rank = launch.rank, .size = launch.size, .port = port};
  Reply reply{};
  std::vector<Entry> entries(launch.size);
  // A reply comes when the last rank has come, a moment after which rank 0 gives up itself; leave
  // it time to say so.
  const Deadline patience = deadline + std::chrono::seconds(1);
  const bool ok = write_all(socket, bytes_of(request), deadline) &&
                  read_all(socket, writable_bytes_of(reply), patience);
  DST_CHECK_AS(Timeout, ok, "rendezvous at ", endpoint.host, ":", endpoint.port,
               " did not answer within ", timeout.count(),
               " ms; rank 0 gave up or serves another job");
  DST_CHECK_AS(DataCorruption, reply.magic == kMagic, "what answers at ", endpoint.host, ":",
               endpoint.port, " is not a rank 0 of ours; choose another MASTER_PORT");
  reply.refusal[sizeof(reply.refusal) - 1] = '\0';
  DST_CHECK(reply.refusal[0] == '\0', reply.refusal);
  DST_CHECK_AS(Timeout, read_all(socket, std::as_writable_bytes(std::span(entries)), patience),
               "rank 0 stopped in the middle of the address table");
  return entries;
}

}  // namespace

uint64_t job_key(const std::string& job_id) {
  return std::stoull(sha256_hex(job_id).substr(0, 16), nullptr, 16);
}

std::vector<Endpoint> exchange_addresses(const LaunchInfo& launch, int listener_port,
                                         Interfaces interfaces, std::chrono::milliseconds timeout) {
  auto entries = launch.rank == 0 ? Desk(launch, timeout).serve(interfaces, listener_port)
                                  : ask_rank_zero(launch, listener_port, timeout);
  std::vector<Endpoint> endpoints;
  for (auto& entry : entries) {
    entry.host[sizeof(entry.host) - 1] = '\0';
    endpoints.push_back({entry.host, entry.port});
  }
  return endpoints;
}

}  // namespace deepseek_train::collectives
