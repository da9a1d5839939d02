// Collectives over hosts that hold several ranks each: shared memory inside a host, TCP or TLS
// between hosts.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "collectives/transport/hierarchical/host_layout.h"
#include "collectives/transport/tcp/tcp_transport.h"

namespace deepseek_train::collectives {

// Of an all_reduce every rank of a host reduces its slice of the host's values, all ranks with the
// same place on their hosts all_reduce that slice, and the host's ranks gather the slices: every
// byte of a host crosses the network once each way, 2 (h-1)/h times in all for h hosts, in as many
// streams as it has ranks. Hosts with different numbers of ranks leave the network to their first
// ranks.
//
// Order of summation: the tree inside a host, then the tree or ring over hosts; partial sums of
// 16-bit floats travel in fp32 and are rounded once. With hosts that hold equal, aligned
// power-of-two blocks of ranks and the tree between them, the bits are those of one tree over all
// ranks.
//
// Reduce_scatter sums inside the host what other hosts want, then between them. What moves bytes
// without adding them up (exchange, send, recv) goes straight from rank to rank over TCP, and so
// does reduce_scatter where hosts hold different numbers of ranks.
class HierarchicalTransport : public Transport {
 public:
  // `world` connects all ranks of the layout; `group` is theirs alone.
  HierarchicalTransport(std::unique_ptr<TcpTransport> world, HostLayout layout, std::string group,
                        std::chrono::milliseconds timeout);

  int rank() const override { return world_->rank(); }
  int size() const override { return world_->size(); }
  std::string_view name() const override { return "hierarchical"; }

  void run(const CollectiveCall& call) override;
  void exchange(const CollectiveCall& call, OutgoingParts out, IncomingParts in) override;
  void send(std::span<const std::byte> bytes, int to) override;
  void recv(std::span<std::byte> bytes, int from) override;
  // Over shared memory alone if all members are on one host, over TCP alone if no two are.
  std::unique_ptr<Transport> make_subgroup(const std::string& group,
                                           const std::vector<int>& members) override;
  // The interrupted all_reduce is finished over TCP alone.
  SurvivingTransport shrink(const std::string& group) override;
  // Plain memory.
  std::unique_ptr<SharedBuffer> allocate_shared(size_t bytes) override;
  void abort(std::string_view reason) noexcept override;

 private:
  template <typename Body>
  void guarded(const Body& body);
  void all_reduce(const CollectiveCall& call);
  void all_reduce_wide(const CollectiveCall& call);
  void all_reduce_piece(const CollectiveCall& call);
  void all_reduce_in_slices(const CollectiveCall& call);
  void all_reduce_whole(const CollectiveCall& call);
  void all_reduce_over_hosts(const CollectiveCall& call);
  void broadcast(const CollectiveCall& call);
  void all_gather(const CollectiveCall& call);
  void reduce_scatter(const CollectiveCall& call);
  void reduce_scatter_piece(const CollectiveCall& call, DType type, size_t begin, size_t count);

  int host() const { return layout_.host_of(rank()); }
  int index() const { return layout_.index_of(rank()); }

  const HostLayout layout_;
  const std::chrono::milliseconds timeout_;
  std::unique_ptr<Transport> local_;  // the ranks of this host
  std::unique_ptr<Transport>
      across_;  // one rank of every host; null where only first ranks have it
  std::vector<std::byte> scratch_;
  std::unique_ptr<TcpTransport> world_;  // last: while it lives it may abort the others
};

// Joins a launch. Flat TCP if no host has several ranks, or if the algorithm asked for needs it
// (ring, or tree where the layout is no sub-tree) and the transport is "auto". `memory_key` tells
// hosts apart; see HostIdentity.
std::unique_ptr<Transport> make_hierarchical_transport(const CommunicatorOptions& options,
                                                       uint64_t memory_key);

}  // namespace deepseek_train::collectives
