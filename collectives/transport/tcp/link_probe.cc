#include "collectives/transport/tcp/link_probe.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>

#include "collectives/transport/tcp/cost_cache.h"
#include "collectives/transport/tcp/transfers.h"

namespace deepseek_train::collectives {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kNumSmall = 16;  // messages one after another
constexpr int kNumTrials = 3;
constexpr size_t kSmallBytes = 64;
constexpr int kSeveralStreams = 4;
constexpr double kWorthwhile = 7.0 / 8;  // of a byte's time
constexpr size_t kMinLarge = 256 << 10, kMaxLarge = 4 << 20;
constexpr double kLongEnough = 10e-3;  // seconds that tell a rate

class Probe {
 public:
  explicit Probe(TcpMesh& mesh) : mesh_(mesh), out_(kMaxLarge), in_(kMaxLarge) {}

  LinkCosts run() {
    const double one = time_small([this] { pass_on(kSmallBytes); });
    const double all = time_small([this] { exchange(kSmallBytes); });
    LinkCosts costs;
    costs.latency = one;
    costs.message = mesh_.size() > 2 ? std::max(0.0, (all - one) / (mesh_.size() - 2)) : 0;
    costs.ring_byte = time_per_byte([this](size_t bytes) { pass_on(bytes); });
    costs.exchange_byte = time_per_byte(
        [this](size_t bytes) { exchange(bytes / (static_cast<size_t>(mesh_.size()) - 1)); });
    return costs;
  }

 private:
  // To the right neighbour.
  void pass_on(size_t bytes) {
    Transfers transfers(mesh_.size());
    transfers.send((mesh_.rank() + 1) % mesh_.size(), std::span(out_).first(bytes));
    transfers.recv((mesh_.rank() + mesh_.size() - 1) % mesh_.size(), std::span(in_).first(bytes));
    transfers.run(mesh_, CallSignature{});
  }

  // To each other rank.
  void exchange(size_t bytes) {
    Transfers transfers(mesh_.size());
    for (int hop = 1; hop < mesh_.size(); ++hop) {
      const int peer = (mesh_.rank() + hop) % mesh_.size();
      transfers.send(peer, std::span(out_).first(bytes));
      transfers.recv(peer, std::span(in_).subspan((hop - 1) * bytes, bytes));
    }
    transfers.run(mesh_, CallSignature{});
  }

  static double seconds_of(const std::function<void()>& body) {
    const auto start = Clock::now();
    body();
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  // Of one message of many, each of which waits for the one before; the median trial.
  double time_small(const std::function<void()>& body) {
    std::array<double, kNumTrials> times;
    for (double& time : times) {
      exchange(1);
      time = slowest(seconds_of([&] {
        for (int i = 0; i < kNumSmall; ++i) body();
      }));
    }
    std::nth_element(times.begin(), times.begin() + kNumTrials / 2, times.end());
    return times[kNumTrials / 2] / kNumSmall;
  }

  // The first transfer of a size opens the connections' windows; of the others the best counts,
  // since what disturbs them is not the links.
  double time_per_byte(const std::function<void(size_t)>& body) {
    for (size_t bytes = kMinLarge;; bytes *= 4) {
      double best = std::numeric_limits<double>::infinity();
      for (int trial = 0; trial <= kNumTrials; ++trial) {
        exchange(1);
        const double time = slowest(seconds_of([&] { body(bytes); }));
        if (trial > 0) best = std::min(best, time);
        if (best >= kLongEnough && trial > 0) break;
      }
      if (best >= kLongEnough || bytes == kMaxLarge) return best / static_cast<double>(bytes);
    }
  }

  // The same on all ranks.
  double slowest(double mine) {
    std::vector<double> all(mesh_.size(), mine);
    Transfers transfers(mesh_.size());
    for (int peer = 0; peer < mesh_.size(); ++peer) {
      if (peer == mesh_.rank()) continue;
      transfers.send(peer, std::as_bytes(std::span(&mine, 1)));
      transfers.recv(peer, std::as_writable_bytes(std::span(&all[peer], 1)));
    }
    transfers.run(mesh_, CallSignature{});
    return *std::max_element(all.begin(), all.end());
  }

  TcpMesh& mesh_;
  std::vector<std::byte> out_, in_;
};

// What ranks tell each other of rank 0's cache.
struct Found {
  uint64_t is_there = 0;
  LinkCosts costs;
};

// Of the mesh as it is and one with several connections a pair, the mesh and costs that are better.
LinkCosts try_several_streams(std::unique_ptr<TcpMesh>& mesh, const LinkCosts& costs,
                              const MakeMesh& make_mesh) {
  auto wide = make_mesh(kSeveralStreams);
  LinkCosts wide_costs = probe_links(*wide);
  wide_costs.num_streams = kSeveralStreams;
  if (wide_costs.ring_byte > kWorthwhile * costs.ring_byte) return costs;
  mesh = std::move(wide);
  return wide_costs;
}

Found from_rank_zero(TcpMesh& mesh, Found found) {
  Transfers transfers(mesh.size());
  const Found mine = found;
  for (int peer = 1; mesh.rank() == 0 && peer < mesh.size(); ++peer)
    transfers.send(peer, std::as_bytes(std::span(&mine, 1)));
  if (mesh.rank() != 0) transfers.recv(0, std::as_writable_bytes(std::span(&found, 1)));
  transfers.run(mesh, CallSignature{});
  return found;
}

}  // namespace

LinkCosts probe_links(TcpMesh& mesh) { return mesh.size() == 1 ? LinkCosts{} : Probe(mesh).run(); }

LinkCosts agree_on_link_costs(std::unique_ptr<TcpMesh>& mesh, CostCache& cache,
                              const MakeMesh& make_mesh) {
  Found found;
  const std::string group = mesh->describe_links();
  if (mesh->rank() == 0) {
    if (const auto cached = cache.load(group)) found = {.is_there = 1, .costs = *cached};
  }
  found = from_rank_zero(*mesh, found);
  if (found.is_there && found.costs.num_streams == 1) return found.costs;
  if (found.is_there && make_mesh) {
    mesh = make_mesh(found.costs.num_streams);
    return found.costs;
  }
  LinkCosts costs = probe_links(*mesh);
  if (make_mesh) costs = try_several_streams(mesh, costs, make_mesh);
  if (mesh->rank() == 0) cache.store(group, costs);
  return costs;
}

}  // namespace deepseek_train::collectives
