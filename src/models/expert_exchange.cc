#include "src/models/expert_exchange.h"

#include <numeric>

#include "deepseek_train/collectives/torch/tensors.h"
#include "deepseek_train/core/error.h"

namespace deepseek_train::models {
namespace {

using Counts = std::vector<int64_t>;

torch::Tensor exchange_rows(collectives::Communicator& ranks, const torch::Tensor& rows,
                            const Counts& sent, const Counts& received) {
  auto sizes = rows.sizes().vec();
  sizes[0] = std::accumulate(received.begin(), received.end(), int64_t{0});
  auto out = torch::empty(sizes, rows.options());
  collectives::all_to_all(ranks, rows.contiguous(), sent, out, received);
  return out;
}

// What the backward pass needs, in the form that autograd's context can keep.
struct Route final : torch::CustomClassHolder {
  Route(collectives::Communicator& ranks, Counts sent, Counts received)
      : ranks(ranks), sent(std::move(sent)), received(std::move(received)) {}
  collectives::Communicator& ranks;
  Counts sent, received;
};

class ExchangeRows final : public torch::autograd::Function<ExchangeRows> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& rows,
                               c10::intrusive_ptr<Route> route) {
    auto out = exchange_rows(route->ranks, rows, route->sent, route->received);
    context->saved_data["route"] = c10::IValue::make_capsule(route);
    return out;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    auto capsule = context->saved_data["route"].toCapsule();
    auto& route = static_cast<Route&>(*capsule);
    return {exchange_rows(route.ranks, gradients[0], route.received, route.sent), {}};
  }
};

torch::Tensor differentiable_exchange(collectives::Communicator& ranks, const torch::Tensor& rows,
                                      const Counts& sent, const Counts& received) {
  return ExchangeRows::apply(rows, c10::make_intrusive<Route>(ranks, sent, received));
}

}  // namespace

std::pair<int64_t, int64_t> expert_shard(const collectives::Communicator* ranks,
                                         int64_t num_experts) {
  if (ranks == nullptr) return {0, num_experts};
  DST_CHECK(num_experts % ranks->size() == 0, num_experts, " experts cannot be shared evenly by ",
            ranks->size(), " ranks; use a number of ranks that divides them");
  const auto each = num_experts / ranks->size();
  return {ranks->rank() * each, (ranks->rank() + 1) * each};
}

ExpertExchange::ExpertExchange(collectives::Communicator& ranks, const Counts& counts,
                               torch::Device device)
    : ranks_(ranks) {
  const auto n = ranks.size();
  const auto each = static_cast<int64_t>(counts.size()) / n;
  // On the device where the communicator works; [n, each] rows of each rank for each expert here.
  auto mine = torch::tensor(counts).to(device);
  auto theirs = torch::empty_like(mine);
  collectives::all_to_all(ranks, mine, theirs);
  auto by_rank = theirs.cpu().view({n, each});
  auto table = by_rank.accessor<int64_t, 2>();
  local_counts_.assign(static_cast<size_t>(each), 0);
  for (int r = 0; r < n; ++r) {
    auto first = counts.begin() + r * each;
    sent_.push_back(std::accumulate(first, first + each, int64_t{0}));
    received_.push_back(0);
    for (int64_t e = 0; e < each; ++e) {
      received_.back() += table[r][e];
      local_counts_[static_cast<size_t>(e)] += table[r][e];
    }
  }
  // Rows arrive by rank, and within a rank by expert; a stable sort by expert makes them whole.
  auto numbers = torch::arange(each).repeat({n}).repeat_interleave(by_rank.flatten());
  by_expert_ = numbers.argsort(/*stable=*/true, 0, /*descending=*/false).to(device);
  by_rank_ = by_expert_.argsort();
}

torch::Tensor ExpertExchange::hand_out(const torch::Tensor& rows) const {
  return differentiable_exchange(ranks_, rows, sent_, received_).index_select(0, by_expert_);
}

torch::Tensor ExpertExchange::give_back(const torch::Tensor& rows) const {
  return differentiable_exchange(ranks_, rows.index_select(0, by_rank_), received_, sent_);
}

}  // namespace deepseek_train::models
