#include "collectives/transport/shm/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <optional>
#include <thread>

#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"
#include "deepseek_train/core/sha256.h"
#include "deepseek_train/core/unique_fd.h"

namespace deepseek_train::collectives {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPollInterval = std::chrono::microseconds(500);
// A segment that is still without its magic number after this long was left by a maker that died at
// once.
constexpr auto kHalfMade = std::chrono::seconds(1);

UniqueFd open_existing(const std::string& name) {
  UniqueFd file(::shm_open(name.c_str(), O_RDWR | O_CLOEXEC, 0));
  DST_CHECK_AS(PermissionDenied, file || errno != EACCES, "shared-memory segment ", name,
               " belongs to somebody else; remove /dev/shm", name);
  return file;
}

size_t file_bytes(const UniqueFd& file, const std::string& name) {
  struct stat status {};
  DST_CHECK_AS(Unavailable, ::fstat(file.get(), &status) == 0, "cannot inspect ", name, ": ",
               std::strerror(errno));
  DST_CHECK_AS(PermissionDenied, status.st_uid == ::geteuid(), "shared-memory segment ", name,
               " belongs to user ", status.st_uid, ", not to ", ::geteuid(), "; remove /dev/shm",
               name);
  return static_cast<size_t>(status.st_size);
}

// The header of an existing segment, mapped alone; empty while there is none or it is not yet
// complete.
std::optional<Mapping> peek(const std::string& name) {
  UniqueFd file = open_existing(name);
  if (!file || file_bytes(file, name) < sizeof(SegmentHeader)) return std::nullopt;
  Mapping mapping(file.get(), sizeof(SegmentHeader), name.c_str());
  if (SegmentLayout(mapping.data(), 0).header().magic.load(std::memory_order_acquire) !=
      kSegmentMagic)
    return std::nullopt;
  return mapping;
}

void remove_if_stale(const std::string& name) {
  const auto give_up = Clock::now() + kHalfMade;
  std::optional<Mapping> found = peek(name);
  while (!found && Clock::now() < give_up) {
    std::this_thread::sleep_for(kPollInterval);
    found = peek(name);
  }
  if (found) {
    const ProcessId creator = SegmentLayout(found->data(), 0).header().creator;
    DST_CHECK(!is_alive(creator), "shared-memory segment ", name, " is in use by process ",
              creator.pid, "; two launches share one job id, give each its own");
  }
  log_warning("replacing shared-memory segment ", name, " that a dead job left behind");
  ::shm_unlink(name.c_str());
}

UniqueFd create_exclusively(const std::string& name) {
  for (int attempt = 0; attempt < 3; ++attempt) {
    UniqueFd file(::shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
    if (file) return file;
    DST_CHECK_AS(Unavailable, errno == EEXIST, "cannot create shared-memory segment ", name, ": ",
                 std::strerror(errno), "; is /dev/shm mounted and writable?");
    remove_if_stale(name);
  }
  throw Unavailable(concat("shared-memory segment ", name, " reappears as fast as it is removed"));
}

Mapping create_segment(const std::string& name, int size) {
  const size_t bytes = SegmentLayout::total_bytes(size);
  UniqueFd file = create_exclusively(name);
  try {
    // Reserved now: a full /dev/shm is an error here, and would be a SIGBUS later.
    const int error = ::posix_fallocate(file.get(), 0, static_cast<off_t>(bytes));
    DST_CHECK_AS(Unavailable, error == 0, "cannot reserve ", bytes,
                 " bytes in /dev/shm: ", std::strerror(error),
                 "; free some or enlarge it (docker: --shm-size)");
    Mapping mapping(file.get(), bytes, name.c_str());
    const SegmentLayout layout(mapping.data(), size);
    layout.header().size = static_cast<uint32_t>(size);
    layout.header().total_bytes = bytes;
    layout.header().creator = this_process();
    layout.header().magic.store(kSegmentMagic, std::memory_order_release);
    return mapping;
  } catch (...) {
    ::shm_unlink(name.c_str());
    throw;
  }
}

// Empty while rank 0 has not made it, or while there is only a dead job's.
std::optional<Mapping> try_attach(const std::string& name, int size) {
  std::optional<Mapping> head = peek(name);
  if (!head) return std::nullopt;
  const SegmentLayout layout(head->data(), 0);
  const SegmentHeader& header = layout.header();
  if (!is_alive(header.creator)) return std::nullopt;
  DST_CHECK(header.size == static_cast<uint32_t>(size), "rank 0 (pid ", header.creator.pid,
            ") counts ", header.size, " ranks, this rank ", size,
            "; they must be of one launch and one build");
  UniqueFd file = open_existing(name);
  if (!file || file_bytes(file, name) != header.total_bytes) return std::nullopt;
  DST_CHECK(header.total_bytes == SegmentLayout::total_bytes(size), "rank 0's segment has ",
            header.total_bytes, " bytes, wanted ", SegmentLayout::total_bytes(size),
            "; all ranks must run the same build");
  return Mapping(file.get(), header.total_bytes, name.c_str());
}

void check_expected(std::span<const ProcessId> expected) {
  for (size_t r = 0; r < expected.size(); ++r)
    DST_CHECK_AS(Unavailable, is_alive(expected[r]), "rank ", r, " (pid ", expected[r].pid,
                 ") has died while the ranks were joining");
}

Mapping attach_segment(const std::string& name, int size, Clock::time_point deadline,
                       std::chrono::milliseconds timeout, std::span<const ProcessId> expected) {
  for (;;) {
    if (auto mapping = try_attach(name, size)) return std::move(*mapping);
    check_expected(expected);
    DST_CHECK_AS(Timeout, Clock::now() < deadline, "rank 0 did not make shared-memory segment ",
                 name, " within ", timeout.count(), " ms; is it running on this host?");
    std::this_thread::sleep_for(kPollInterval);
  }
}

void announce(const SegmentLayout& layout, int rank) {
  RankBlock& block = layout.rank(rank);
  auto absent = Presence::kAbsent;
  DST_CHECK(block.presence.compare_exchange_strong(absent, Presence::kJoining), "process ",
            block.process.pid, " is already rank ", rank, "; ranks must be distinct");
  block.process = this_process();
  block.presence.store(Presence::kAttached, std::memory_order_release);
}

std::string missing_ranks(const SegmentLayout& layout, int size) {
  std::string text;
  for (int r = 0; r < size; ++r) {
    if (layout.rank(r).presence.load(std::memory_order_acquire) < Presence::kAttached)
      text += (text.empty() ? "" : ", ") + std::to_string(r);
  }
  return text;
}

[[noreturn]] void throw_missing(const SegmentLayout& layout, int size,
                                std::chrono::milliseconds timeout) {
  throw Timeout(concat("rank(s) ", missing_ranks(layout, size), " of ", size,
                       " did not join within ", timeout.count(), " ms; did they start?"));
}

// Owns the segment's name until all have attached.
struct Name {
  std::string text;
  ~Name() { ::shm_unlink(text.c_str()); }
};

void await_everybody(const SegmentLayout& layout, int rank, int size, const std::string& name,
                     Clock::time_point deadline, std::chrono::milliseconds timeout,
                     std::span<const ProcessId> expected) {
  if (rank == 0) {
    const Name owned{name};
    while (!missing_ranks(layout, size).empty() && Clock::now() < deadline) {
      check_expected(expected);
      std::this_thread::sleep_for(kPollInterval);
    }
    if (!missing_ranks(layout, size).empty()) throw_missing(layout, size, timeout);
    layout.header().all_attached.store(1, std::memory_order_release);
    return;
  }
  while (layout.header().all_attached.load(std::memory_order_acquire) == 0) {
    if (Clock::now() >= deadline) throw_missing(layout, size, timeout);
    try {
      check_expected(expected);
      check_expected({&layout.header().creator, 1});
    } catch (const Unavailable&) {
      // It may have joined, done its work and ended since the last look.
      if (layout.header().all_attached.load(std::memory_order_acquire) == 0) throw;
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

}  // namespace

std::string segment_name(const std::string& job_id) {
  return concat("/dst-", ::geteuid(), "-", sha256_hex(job_id).substr(0, 24));
}

Mapping join_segment(const std::string& name, int rank, int size, std::chrono::milliseconds timeout,
                     std::span<const ProcessId> expected) {
  const auto deadline = Clock::now() + timeout;
  Mapping mapping = rank == 0 ? create_segment(name, size)
                              : attach_segment(name, size, deadline, timeout, expected);
  const SegmentLayout layout(mapping.data(), size);
  announce(layout, rank);
  await_everybody(layout, rank, size, name, deadline, timeout, expected);
  return mapping;
}

}  // namespace deepseek_train::collectives
