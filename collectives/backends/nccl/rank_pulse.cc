#include "collectives/backends/nccl/rank_pulse.h"

#include <algorithm>
#include <cstring>

#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(20);

template <typename T>
std::span<uint8_t> bytes_of(T* data, size_t count) {
  return {reinterpret_cast<uint8_t*>(data), count * sizeof(T)};
}

}  // namespace

RankPulse::RankPulse(std::unique_ptr<Communicator> group)
    : group_(std::move(group)), all_(group_->size()), thread_([this] { beat(); }) {}

RankPulse::~RankPulse() {
  bool has_ended = false;
  {
    std::lock_guard lock(mutex_);
    is_stopping_ = true;
    has_ended = has_ended_;
  }
  changed_.notify_all();
  if (!has_ended) group_->abort("its communicator was destroyed");
  thread_.join();
}

void RankPulse::set_current(const CallSignature& call) {
  std::lock_guard lock(mutex_);
  own_.current = call;
}

std::optional<std::string> RankPulse::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

void RankPulse::announce_failure(const std::string& reason) noexcept {
  {
    std::lock_guard lock(mutex_);
    is_stopping_ = true;
    if (has_ended_) return;
  }
  group_->abort(reason);
  changed_.notify_all();
}

bool RankPulse::close(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  own_.is_closing = 1;
  changed_.notify_all();
  return changed_.wait_for(lock, patience, [this] { return has_ended_; }) && !failure_;
}

std::optional<std::string> RankPulse::disagreement(const CallSignature& call) const {
  std::lock_guard lock(mutex_);
  for (size_t r = 0; r < all_.size(); ++r) {
    const CallSignature& theirs = all_[r].current;
    if (theirs.sequence == call.sequence && !is_same_call(theirs, call))
      return concat("rank ", r, " made another call: ", describe(theirs));
  }
  return std::nullopt;
}

std::string RankPulse::describe_ranks() const {
  std::lock_guard lock(mutex_);
  std::string text;
  for (size_t r = 0; r < all_.size(); ++r)
    text += concat(r ? "; rank " : "rank ", r, ": ", describe(all_[r].current));
  return text;
}

// Ends when all are closing, on an error, or after another rank's or this rank's abort.
void RankPulse::beat() {
  std::optional<std::string> failure;
  try {
    while (!exchange_beats()) {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, kInterval, [this] { return is_stopping_ || own_.is_closing; });
      if (is_stopping_) break;
    }
  } catch (const std::exception& error) {
    failure = error.what();
  }
  std::lock_guard lock(mutex_);
  failure_ = std::move(failure);
  has_ended_ = true;
  changed_.notify_all();
}

// True when all ranks are closing.
bool RankPulse::exchange_beats() {
  Beat own;
  {
    std::lock_guard lock(mutex_);
    own = own_;
  }
  std::vector<Beat> all(group_->size());
  group_->all_gather(std::span<const uint8_t>(bytes_of(&own, 1)), bytes_of(all.data(), all.size()));
  const bool is_closed =
      std::all_of(all.begin(), all.end(), [](const Beat& pulse) { return pulse.is_closing; });
  std::lock_guard lock(mutex_);
  all_ = std::move(all);
  return is_closed;
}

}  // namespace deepseek_train::collectives
