// Collectives over TCP connections, in clear text or under TLS.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "collectives/choice_log.h"
#include "collectives/transport/tcp/link_costs.h"
#include "collectives/transport/tcp/mesh.h"
#include "collectives/transport/tcp/recovery.h"
#include "collectives/transport/tcp/transfers.h"
#include "collectives/transport/transport.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::collectives {

// Which ways an all_reduce may go. kTree: those in tree order; kAny: these and the ring.
enum class Algorithm { kTree, kRing, kAny };

struct TcpTransportOptions {
  Interfaces interfaces = Interfaces::kLoopback;  // where sub-groups listen
  Algorithm algorithm = Algorithm::kTree;         // of all_reduce on 32- and 64-bit types
  Algorithm algorithm_16_bit = Algorithm::kTree;
  // Keeps the input of every all_reduce until all ranks have its result: shrink() can finish it.
  // Costs a copy and one more exchange of a few bytes per all_reduce.
  bool is_recoverable = false;
  bool traces_choices = false;
  LinkCosts costs;  // the same on all ranks, which choose by them
};

// Reductions by direct exchange: rank i sends slice j to rank j, which reduces its slice in tree
// order and sends it to all, or, for small messages, in fewer steps and the same order. Every call
// begins with a greeting to all whom a rank sends to, in front of the first bytes, that holds the
// call's signature: ranks that made different calls find out, from each other or one hop away.
class TcpTransport : public Transport {
 public:
  TcpTransport(std::unique_ptr<TcpMesh> mesh, const TcpTransportOptions& options);

  int rank() const override { return mesh_->rank(); }
  int size() const override { return mesh_->size(); }
  std::string_view name() const override { return mesh_->options().streams->name(); }

  void run(const CollectiveCall& call) override;
  void exchange(const CollectiveCall& call, OutgoingParts out, IncomingParts in) override;
  void send(std::span<const std::byte> bytes, int to) override;
  void recv(std::span<std::byte> bytes, int from) override;
  std::unique_ptr<Transport> make_subgroup(const std::string& group,
                                           const std::vector<int>& members) override;
  // See survivors.cc.
  SurvivingTransport shrink(const std::string& group) override;
  std::unique_ptr<SharedBuffer> allocate_shared(size_t bytes) override;
  void abort(std::string_view reason) noexcept override;

  // The same with their own type, for a transport that builds on this one.
  struct SurvivingTcp {
    std::unique_ptr<TcpTransport> transport;
    std::vector<int> lost;
    Survivors::Interrupted interrupted = Survivors::Interrupted::kNone;
  };
  std::unique_ptr<TcpTransport> make_tcp_subgroup(const std::string& group,
                                                  const std::vector<int>& members);
  SurvivingTcp shrink_tcp();
  // Called once, from the control plane's thread, when the group ends.
  void set_failure_listener(std::function<void(const std::string&)> listener);

  // As run(), but the work between the call's begin and its commitment is the caller's: for a
  // transport that sends some of its bytes over others. The caller compares signatures itself.
  void run_with(const CollectiveCall& call, const std::function<void()>& body);

 private:
  // What a call begins with.
  struct Greeting {
    CallSignature call;
    uint64_t renewal = 0;  // see renewal_
  };

  // Runs the body; an error of this rank's own ends the group for the others too.
  template <typename Body>
  void guarded(const Body& body);
  template <typename Body>
  void in_call(const CollectiveCall& call, const Body& body);

  void dispatch(const CollectiveCall& call);
  void all_reduce(const CollectiveCall& call);
  void all_reduce_once(const CollectiveCall& call);
  void all_reduce_direct(const CollectiveCall& call);
  void all_reduce_doubling(const CollectiveCall& call);
  void all_reduce_halving(const CollectiveCall& call);
  void all_reduce_ring(const CollectiveCall& call);
  void reduce_scatter(const CollectiveCall& call);
  void all_gather(const CollectiveCall& call);
  void broadcast(const CollectiveCall& call);
  void barrier();
  void commit();
  // In the group of survivors: the all_reduce that was interrupted, from the result of `root` or,
  // if that is none, from the kept inputs.
  void finish(Recovery&& kept, std::optional<int> root, bool has_result);
  void reduce_all(const CollectiveCall& call);
  std::vector<Way> ways_of(DType dtype) const;

  // Puts the exchange of greetings with every peer at the head of the transfers, once per call.
  void add_greetings(Transfers& transfers);
  // One greeting each way, for algorithms in which every rank hears of every other through others.
  void greet(Transfers& transfers, int to, int from);
  void check_greeting(int peer);
  // Greets a partner and exchanges bytes with it.
  void meet(int partner, std::span<const std::byte> out, std::span<std::byte> in);
  void run(Transfers& transfers) { transfers.run(*mesh_, current_); }
  // Room for one piece of `bytes` from every rank.
  std::byte* scratch(size_t bytes);
  std::unique_ptr<TcpMesh> make_mesh(const std::string& group, const std::vector<int>& members);
  void renew_connections_if_due();

  std::function<void(const std::string&)> failure_listener_;
  std::unique_ptr<TcpMesh> mesh_;  // replaced only under mesh_mutex_, by the thread of the calls
  std::mutex mesh_mutex_;          // for abort(), which comes from any
  const TcpTransportOptions options_;
  uint64_t sequence_ = 0;
  uint64_t num_renewals_ = 0;
  uint64_t num_greeted_ = 0;  // calls that had greetings
  uint64_t renewal_ = 0;      // the number of them after which connections are renewed; 0: not yet
  CallSignature current_;
  Greeting greeting_;
  bool has_greeted_ = false;
  std::vector<Greeting> greetings_;
  std::vector<std::byte> scratch_;
  Recovery recovery_;
  ChoiceLog choices_{options_.traces_choices};
};

template <typename Body>
void TcpTransport::guarded(const Body& body) {
  mesh_->control().catch_up();
  mesh_->control().throw_if_failed();
  try {
    body();
  } catch (const PeerFailure&) {
    throw;
  } catch (const std::exception& error) {
    mesh_->control().fail(error.what());
    throw;
  }
  mesh_->control().leave();
}

// Rendezvous and mesh for a whole launch.
std::unique_ptr<TcpTransport> make_tcp_transport(const CommunicatorOptions& options);

}  // namespace deepseek_train::collectives
