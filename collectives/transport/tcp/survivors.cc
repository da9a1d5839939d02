#include "collectives/transport/tcp/survivors.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "collectives/rendezvous/address_exchange.h"
#include "collectives/transport/tcp/tcp_transport.h"
#include "collectives/transport/tcp/transfers.h"
#include "deepseek_train/core/error.h"
#include "deepseek_train/core/log.h"

namespace deepseek_train::collectives {
namespace {

using Clock = std::chrono::steady_clock;

// By old rank. Grows only.
using LostSet = std::vector<uint8_t>;
constexpr uint8_t kSilent = 1;
constexpr uint8_t kGone = 2;

// What a rank publishes, followed by its LostSet.
struct Statement {
  Recovery::Progress progress;
  int32_t port = 0;
  // Has passed the barrier of the group without exactly those lost.
  uint32_t is_committed = 0;
};

// Another rank was lost, or found to be lost, while a group was being formed.
struct NextRound {};

class Agreement {
 public:
  Agreement(TcpMesh& mesh, Interfaces interfaces, const Recovery::Progress& progress)
      : mesh_(mesh),
        listener_(listen_on(interfaces, 0)),
        lost_(mesh.size(), 0),
        statements_(mesh.size()),
        lost_sets_(mesh.size()),
        deadline_(Clock::now() + mesh.timeout()) {
    mine_.progress = progress;
    mine_.port = port_of(listener_);
    publish();
  }

  SurvivorGroup run() {
    for (;;) {
      if (await_agreement()) return take();  // others hold the group that we formed last
      check_majority();
      try {
        form();
        pass_barrier();
        mine_.is_committed = 1;
        publish();
        return take();
      } catch (const NextRound&) {
      } catch (const PermissionDenied&) {
        throw;
      } catch (const Error& error) {
        log_warning("survivors try again without another rank: ", error.what());
      }
    }
  }

 private:
  // False once all agree on who is lost; true if the group formed last turns out to stand.
  bool await_agreement() {
    for (;;) {
      take_in_views();
      if (formed_.mesh && stands_elsewhere()) return true;
      if (Clock::now() > deadline_) count_silent_as_lost();
      if (all_agree()) return false;
      mesh_.control().await_change(deadline_);
    }
  }

  void take_in_views() {
    const auto views = mesh_.control().views();
    const LostSet before = lost_;
    for (int peer = 0; peer < mesh_.size(); ++peer) {
      if (peer == mesh_.rank()) continue;
      const auto& text = views[peer].text;
      if (text.size() == sizeof(Statement) + lost_.size()) take_in(peer, text);
      if (views[peer].is_silent) lost_[peer] = std::max(lost_[peer], kSilent);
      if (views[peer].is_gone) lost_[peer] = kGone;
    }
    if (lost_ == before) return;
    deadline_ = std::max(deadline_, Clock::now() + mesh_.timeout() / 4);
    publish();
  }

  void take_in(int peer, std::span<const std::byte> text) {
    std::memcpy(&statements_[peer], text.data(), sizeof(Statement));
    lost_sets_[peer].resize(lost_.size());
    std::memcpy(lost_sets_[peer].data(), text.data() + sizeof(Statement), lost_.size());
    if (lost_[peer]) return;  // what the lost believe does not count
    DST_CHECK_AS(Unavailable, !lost_sets_[peer][mesh_.rank()], mesh_.control().name_rank(peer),
                 " counts this rank ", mesh_.rank(),
                 " as lost: it was silent for too long; it must start anew");
    for (size_t r = 0; r < lost_.size(); ++r) lost_[r] = std::max(lost_[r], lost_sets_[peer][r]);
  }

  bool all_agree() const {
    for (int peer = 0; peer < mesh_.size(); ++peer) {
      if (peer != mesh_.rank() && !lost_[peer] && lost_sets_[peer] != lost_) return false;
    }
    return true;
  }

  bool stands_elsewhere() const {
    for (int peer = 0; peer < mesh_.size(); ++peer) {
      if (statements_[peer].is_committed && lost_sets_[peer] == formed_lost_) return true;
    }
    return false;
  }

  void count_silent_as_lost() {
    for (int peer = 0; peer < mesh_.size(); ++peer) {
      if (peer != mesh_.rank() && lost_sets_[peer] != lost_)
        lost_[peer] = std::max(lost_[peer], kSilent);
    }
    deadline_ = Clock::now() + mesh_.timeout() / 4;
    publish();
  }

  void publish() {
    std::vector<std::byte> text(sizeof(mine_) + lost_.size());
    std::memcpy(text.data(), &mine_, sizeof(mine_));
    std::memcpy(text.data() + sizeof(mine_), lost_.data(), lost_.size());
    mesh_.control().publish(std::move(text));
  }

  // Two parts of a split network must not both go on.
  void check_majority() const {
    int num_members = 0, num_silent = 0, lowest_silent = mesh_.size(), lowest_member = mesh_.size();
    for (int r = mesh_.size() - 1; r >= 0; --r) {
      if (lost_[r] == kSilent) {
        ++num_silent;
        lowest_silent = r;
      } else if (!lost_[r]) {
        ++num_members;
        lowest_member = r;
      }
    }
    DST_CHECK_AS(
        Unavailable,
        num_members > num_silent || (num_members == num_silent && lowest_member < lowest_silent),
        num_members, " survivors cannot go on: ", num_silent,
        " ranks are silent, which may be the larger part of a split network; start anew "
        "from a checkpoint");
  }

  void form() {
    formed_ = {};
    std::string name = concat(mesh_.options().key, "/survivors ");
    MeshOptions options{.num_streams = mesh_.options().num_streams,
                        .timeout = mesh_.timeout(),
                        .streams = mesh_.options().streams};
    for (int r = 0; r < mesh_.size(); ++r) {
      name += lost_[r] ? "-" : "+";
      (lost_[r] ? formed_.lost : formed_.members).push_back(r);
      if (lost_[r]) continue;
      const Statement& statement = r == mesh_.rank() ? mine_ : statements_[r];
      if (r == mesh_.rank()) options.rank = static_cast<int>(options.endpoints.size());
      options.endpoints.push_back({mesh_.host(r), statement.port});
      options.launch_ranks.push_back(mesh_.options().launch_ranks[r]);
      formed_.progress.push_back(statement.progress);
    }
    options.key = job_key(name);
    formed_lost_ = lost_;
    formed_.mesh = std::make_unique<TcpMesh>(std::move(options), listener_, [this] {
      take_in_views();
      if (lost_ != formed_lost_) throw NextRound();
    });
  }

  void pass_barrier() {
    TcpMesh& mesh = *formed_.mesh;
    char mine = 1;
    std::vector<char> theirs(mesh.size());
    Transfers transfers(mesh.size());
    for (int peer = 0; peer < mesh.size(); ++peer) {
      if (peer == mesh.rank()) continue;
      transfers.send(peer, std::as_bytes(std::span(&mine, 1)));
      transfers.recv(peer, std::as_writable_bytes(std::span(&theirs[peer], 1)));
    }
    transfers.run(mesh, CallSignature{});
  }

  SurvivorGroup take() { return std::move(formed_); }

  TcpMesh& mesh_;
  const UniqueFd listener_;
  Statement mine_;
  LostSet lost_;
  std::vector<Statement> statements_;
  std::vector<LostSet> lost_sets_;
  Deadline deadline_;
  SurvivorGroup formed_;
  LostSet formed_lost_;
};

enum class Remedy { kNothing, kSpreadResult, kRedo, kUndo, kIsDone };

struct Plan {
  Remedy remedy = Remedy::kNothing;
  std::optional<int> root;  // the new rank that holds the result to be spread
};

// From the members' progress, so alike on all of them, and from one's own.
Plan plan_for(const std::vector<Recovery::Progress>& all, const Recovery::Progress& mine) {
  uint64_t passed = 0;
  for (const auto& progress : all) passed = std::max(passed, progress.passed);
  // Some rank has passed this call: every rank has its result.
  if (mine.entered == passed && mine.passed < passed && mine.has_input) return {Remedy::kIsDone};
  bool have_all_entered = true;
  for (const auto& progress : all)
    have_all_entered &= progress.entered == passed + 1 && progress.has_input;
  if (have_all_entered) {
    for (size_t r = 0; r < all.size(); ++r) {
      if (all[r].has_result) return {Remedy::kSpreadResult, static_cast<int>(r)};
    }
    return {Remedy::kRedo};
  }
  // Begun by some only: as if it had not been.
  return {mine.entered == passed + 1 && mine.has_input ? Remedy::kUndo : Remedy::kNothing};
}

Survivors::Interrupted outcome_of(Remedy remedy) {
  switch (remedy) {
    case Remedy::kNothing: return Survivors::Interrupted::kNone;
    case Remedy::kUndo: return Survivors::Interrupted::kUntouched;
    case Remedy::kRedo: return Survivors::Interrupted::kWithoutLost;
    case Remedy::kIsDone:
    case Remedy::kSpreadResult: return Survivors::Interrupted::kIncludesLost;
  }
  return Survivors::Interrupted::kNone;
}

}  // namespace

SurvivorGroup form_survivor_group(TcpMesh& mesh, Interfaces interfaces,
                                  const Recovery::Progress& progress) {
  return Agreement(mesh, interfaces, progress).run();
}

SurvivingTransport TcpTransport::shrink(const std::string&) {
  auto left = shrink_tcp();
  return {std::move(left.transport), std::move(left.lost), left.interrupted};
}

// An all_reduce that all survivors had entered is finished: with the lost ranks' data if a survivor
// holds the result, else anew from the kept inputs. One that only some had entered is undone there
// (kNone, its input back in place), so that every survivor goes on with the same next call.
TcpTransport::SurvivingTcp TcpTransport::shrink_tcp() {
  const Recovery::Progress progress = recovery_.progress();
  auto survivors = form_survivor_group(*mesh_, options_.interfaces, progress);
  const Plan plan = plan_for(survivors.progress, progress);
  SurvivingTcp left{
      .transport = std::make_unique<TcpTransport>(std::move(survivors.mesh), options_),
      .lost = std::move(survivors.lost),
      .interrupted = outcome_of(plan.remedy)};
  if (plan.remedy == Remedy::kUndo) recovery_.restore_input();
  if (plan.remedy != Remedy::kRedo && plan.remedy != Remedy::kSpreadResult) return left;
  try {
    left.transport->finish(std::move(recovery_), plan.root, progress.has_result);
  } catch (const Error& error) {
    // All members keep the call in their new transports, so the same rules finish it from there.
    log_warning("the group of survivors has lost a rank too: ", error.what());
    SurvivingTcp last = left.transport->shrink_tcp();
    for (const int rank : last.lost) left.lost.push_back(survivors.members[rank]);
    std::sort(left.lost.begin(), left.lost.end());
    if (last.interrupted == Survivors::Interrupted::kWithoutLost)
      left.interrupted = last.interrupted;
    left.transport = std::move(last.transport);
  }
  return left;
}

// A redone call's result counts as the group's only when all have it (it is not noted before), so
// that a further loss begins it anew without that rank either.
void TcpTransport::finish(Recovery&& kept, std::optional<int> root, bool has_result) {
  recovery_.inherit(std::move(kept), has_result);
  CollectiveCall call = recovery_.call();
  sequence_ = 1;
  guarded([&] {
    current_ = sign(call, sequence_);
    mesh_->control().enter(current_);
    has_greeted_ = false;
    if (root) {
      call.root = *root;
      if (size() > 1) broadcast(call);
    } else {
      recovery_.restore_input();
      if (size() > 1) reduce_all(call);
    }
    commit();
    recovery_.pass();
  });
}

}  // namespace deepseek_train::collectives
