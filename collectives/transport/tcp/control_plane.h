// What ranks tell each other beside data: that they live, what they do, and why they end.
#pragma once

#include <poll.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "collectives/transport/call_signature.h"
#include "collectives/transport/tcp/silence_watch.h"
#include "collectives/transport/tcp/stream.h"
#include "deepseek_train/core/unique_fd.h"

namespace deepseek_train::collectives {

struct PeerProcess {
  int64_t pid = 0;
  std::string host;
  uint64_t process_key = 0;  // see HostIdentity
};

// One connection to every other rank and one thread, which sends a heartbeat every 100 ms whatever
// the rank computes. A rank whose connection ends without a goodbye has died; one that stays silent
// although this rank's own thread ran on time is frozen or cannot be reached (silence_watch.h).
// Either ends the group, and every rank is told the first reason. The thread goes on after that,
// for the survivors' agreement (survivors.h).
//
// Thread-safe.
class ControlPlane {
 public:
  // By rank; one's own stream is null.
  ControlPlane(int rank, std::vector<PeerProcess> processes,
               std::vector<std::unique_ptr<Stream>> streams);
  // Says goodbye; bounded.
  ~ControlPlane();

  // What this rank does, for the others' error messages.
  void enter(const CallSignature& call);
  void leave();
  // That it stands still in its call because of others.
  void set_waiting(bool is_waiting);
  // What a peer said it does over its data stream, which is fresher than its heartbeat.
  void note_call(int peer, const CallSignature& call);

  // Takes in what has come by now, so that a call sees every end of the group that came before it.
  void catch_up();
  bool has_failed() const { return has_failed_.load(std::memory_order_acquire); }
  // PeerFailure if another rank ended the group, Unavailable if this one did or found a rank dead.
  void throw_if_failed() const;
  // Ends the group for everybody; the first reason stays.
  void fail(std::string_view reason) noexcept;
  // Readable from the moment the group has ended.
  int failure_fd() const { return failure_event_.get(); }

  // Called once, from this object's thread, when the group has ended; at once if it has.
  void set_failure_listener(std::function<void(const std::string& reason)> listener);

  // "rank 2 (pid 4711, host a)".
  std::string name_rank(int rank) const;
  // "; meanwhile rank 1 (pid 7, host a): in all_reduce #12 (...) at train.cc:40 for 1.2 s; ...",
  // what is known of each other rank, in at most 2 KiB.
  std::string report() const;
  // "rank 2 (pid 4711, host a), ..." of those who have not said lately that they wait in this call.
  std::string ranks_not_waiting_in(const CallSignature& call) const;
  // That the peer said goodbye.
  bool has_left(int peer) const;

  // The agreement of survivors: every rank has one text, the latest of which all others see.
  struct View {
    bool is_gone = false;         // its connection is closed: the process has ended or left
    bool is_silent = false;       // it may live where it cannot be reached
    std::vector<std::byte> text;  // empty: none yet
  };
  void publish(std::vector<std::byte> text);
  std::vector<View> views() const;
  // Returns when a view may have changed, at the latest at the deadline.
  void await_change(Deadline deadline);

 private:
  using Clock = std::chrono::steady_clock;
  enum class Kind : uint32_t { kHeartbeat = 1, kFailure, kGoodbye, kText };
  enum class Cause { kNone, kOwn, kTold, kFound };
  struct Header {
    Kind kind;
    uint32_t bytes;
  };
  struct Heartbeat {
    CallSignature call;
    uint64_t milliseconds_since = 0;  // it entered or left the call
    int64_t thread = 0;               // that sends heartbeats
    uint32_t milliseconds_late = 0;   // how late that thread has run lately
    uint8_t is_in_call = 0;
    uint8_t is_waiting = 0;
    uint16_t padding = 0;
  };
  struct Peer {
    PeerProcess process;
    std::unique_ptr<Stream> stream;
    std::vector<std::byte> in;   // the begin of a message
    std::vector<std::byte> out;  // not yet taken by the stream
    Heartbeat heartbeat;
    Clock::time_point heard;
    SilenceWatch silence;
    bool is_open = false;
    bool is_lost = false;  // silent; still told what happens, should it wake up
    bool has_left = false;
    std::vector<std::byte> text;
  };

  void run();
  std::vector<int> sleep_until(Clock::time_point time);
  void beat(Clock::time_point now);
  void check_silence(int peer, Clock::time_point now, bool is_on_time);
  void read(int peer);
  void handle(int peer, const Header& header, std::span<const std::byte> body);
  void close(int peer);
  void queue(int peer, Kind kind, std::span<const std::byte> body);
  void queue_for_all(Kind kind, std::span<const std::byte> body);
  void flush(int peer);
  bool is_flushed() const;
  void say_goodbye(std::unique_lock<std::mutex>& lock);
  void record_failure(Cause cause, int rank, std::string text);
  std::string name_locked(int rank) const;
  std::string report_locked() const;
  void wake();
  void tell_listener(std::unique_lock<std::mutex>& lock);

  const int rank_;
  const UniqueFd failure_event_;
  const UniqueFd wake_event_;
  std::atomic<bool> has_failed_ = false;

  mutable std::mutex mutex_;  // guards all that follows
  std::condition_variable changed_;
  std::vector<Peer> peers_;
  Heartbeat own_;
  Clock::time_point own_since_;
  Clock::time_point next_beat_;
  OwnLateness lateness_;
  Cause cause_ = Cause::kNone;
  int failed_rank_ = -1;
  std::string failure_;
  std::vector<std::byte> text_;
  std::function<void(const std::string&)> failure_listener_;
  bool is_stopping_ = false;
  std::vector<pollfd> poll_fds_;  // scratch of catch_up()
  std::thread thread_;            // last: it uses the rest
};

}  // namespace deepseek_train::collectives
