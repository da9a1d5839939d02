// Collectives over TCP connections.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "collectives/transport/tcp/mesh.h"
#include "collectives/transport/tcp/transfers.h"
#include "collectives/transport/transport.h"

namespace deepseek_train::collectives {

enum class Algorithm { kTree, kRing };

struct TcpTransportOptions {
  Interfaces interfaces = Interfaces::kLoopback;  // where sub-groups listen
  Algorithm algorithm = Algorithm::kTree;         // of all_reduce on 32- and 64-bit types
  Algorithm algorithm_16_bit = Algorithm::kTree;
};

// Reductions by direct exchange: rank i sends slice j to rank j, which reduces its slice in tree
// order and sends it to all. Every first exchange of a call begins with the call's signature, so
// ranks that made different calls find out.
class TcpTransport : public Transport {
 public:
  TcpTransport(std::unique_ptr<TcpMesh> mesh, const TcpTransportOptions& options);

  int rank() const override { return mesh_->rank(); }
  int size() const override { return mesh_->size(); }
  std::string_view name() const override { return "tcp"; }

  void run(const CollectiveCall& call) override;
  void exchange(const CollectiveCall& call, OutgoingParts out, IncomingParts in) override;
  void send(std::span<const std::byte> bytes, int to) override;
  void recv(std::span<std::byte> bytes, int from) override;
  std::unique_ptr<Transport> make_subgroup(const std::string& group,
                                           const std::vector<int>& members) override;
  SurvivingTransport shrink(const std::string& group) override;
  std::unique_ptr<SharedBuffer> allocate_shared(size_t bytes) override;
  void abort(std::string_view reason) noexcept override { mesh_->fail(reason); }

 private:
  template <typename Body>
  void guarded(const Body& body);

  void dispatch(const CollectiveCall& call);
  void all_reduce(const CollectiveCall& call);
  void all_reduce_once(const CollectiveCall& call);
  void all_reduce_direct(const CollectiveCall& call);
  void all_reduce_ring(const CollectiveCall& call);
  void reduce_scatter(const CollectiveCall& call);
  void all_gather(const CollectiveCall& call);
  void broadcast(const CollectiveCall& call);
  void barrier();

  // Puts the exchange of signatures with every peer, or with one, at the head of the transfers,
  // once per call.
  void add_signatures(Transfers& transfers);
  void add_signature(Transfers& transfers, int peer);
  void check_signature(int peer) const;
  void run(Transfers& transfers) { transfers.run(*mesh_, current_); }
  // Room for one piece of `bytes` from every rank.
  std::byte* scratch(size_t bytes);

  std::unique_ptr<TcpMesh> mesh_;
  const TcpTransportOptions options_;
  uint64_t sequence_ = 0;
  CallSignature current_;
  bool has_exchanged_signatures_ = false;
  std::vector<CallSignature> signatures_;
  std::vector<std::byte> scratch_;
};

// Rendezvous and mesh for a whole launch.
std::unique_ptr<Transport> make_tcp_transport(const CommunicatorOptions& options);

}  // namespace deepseek_train::collectives
