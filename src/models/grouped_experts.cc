#include "src/models/grouped_experts.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <algorithm>
#include <atomic>

namespace deepseek_train::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Calls body(expert, first row, number of rows) for each expert that has rows.
template <typename Body>
void for_each_expert(const std::vector<int64_t>& counts, const Body& body) {
  std::vector<int64_t> begins = {0};
  for (auto count : counts) begins.push_back(begins.back() + count);
  auto run = [&](size_t expert) {
    if (counts[expert] > 0) body(expert, begins[expert], counts[expert]);
  };
  const auto busy = std::count_if(counts.begin(), counts.end(), [](auto n) { return n > 0; });
  const auto threads = at::get_num_threads();
  if (busy < 2 * threads) {
    for (size_t expert = 0; expert < counts.size(); ++expert) run(expert);
    return;
  }
  const at::ThreadLocalState state;  // gradient and inference mode belong to a thread
  std::atomic<size_t> next = 0;      // loads are uneven: each thread takes the next one
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    at::ThreadLocalStateGuard guard(state);
    for (size_t expert = next++; expert < counts.size(); expert = next++) run(expert);
  });
}

class GroupedSwiGlu final : public torch::autograd::Function<GroupedSwiGlu> {
 public:
  // `weights`: gate, up, down of the first expert, of the second, ...
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& rows,
                               at::TensorList weights, const std::vector<int64_t>& counts) {
    const auto dtype = rows.scalar_type();
    auto gates = rows.new_empty({rows.size(0), weights[0].size(0)});
    auto ups = torch::empty_like(gates);
    auto out = torch::empty_like(rows);
    for_each_expert(counts, [&](size_t expert, int64_t begin, int64_t count) {
      const auto* own = &weights[3 * expert];
      auto x = rows.narrow(0, begin, count);
      auto gate = gates.narrow(0, begin, count), up = ups.narrow(0, begin, count);
      at::mm_out(gate, x, own[0].to(dtype).t());
      at::mm_out(up, x, own[1].to(dtype).t());
      auto y = out.narrow(0, begin, count);
      at::mm_out(y, at::silu(gate).mul_(up), own[2].to(dtype).t());
    });
    variable_list saved = {rows, gates, ups};
    saved.insert(saved.end(), weights.begin(), weights.end());
    context->save_for_backward(saved);
    context->saved_data["counts"] = counts;
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto counts = context->saved_data["counts"].toIntVector();
    const auto& rows = saved[0];
    const auto dtype = rows.scalar_type();
    const auto grad_out = gradients[0].contiguous();
    variable_list results(saved.size() - 1);  // rows, weights, counts
    std::vector<char> wanted;
    for (size_t i = 0; i + 1 < results.size(); ++i) wanted.push_back(context->needs_input_grad(i));
    auto grad_rows = wanted[0] ? torch::empty_like(rows) : torch::Tensor();
    for_each_expert(counts, [&](size_t expert, int64_t begin, int64_t count) {
      const auto* own = &saved[3 + 3 * expert];
      auto part = [&](const torch::Tensor& all) { return all.narrow(0, begin, count); };
      auto x = part(rows), gate = part(saved[1]), up = part(saved[2]), grad_y = part(grad_out);
      auto keep = [&](size_t which, const torch::Tensor& left, const torch::Tensor& right) {
        const auto at = 1 + 3 * expert + which;
        if (wanted[at]) results[at] = at::mm(left.t(), right).to(own[which].scalar_type());
      };
      auto activated = at::silu(gate);
      keep(2, grad_y, activated * up);
      auto grad_hidden = at::mm(grad_y, own[2].to(dtype));
      auto grad_gate = at::silu_backward(grad_hidden * up, gate);
      auto grad_up = grad_hidden.mul_(activated);
      keep(0, grad_gate, x);
      keep(1, grad_up, x);
      if (!wanted[0]) return;
      auto grad_x = part(grad_rows);
      at::mm_out(grad_x, grad_gate, own[0].to(dtype));
      grad_x.addmm_(grad_up, own[1].to(dtype));
    });
    // An expert without rows has a gradient, of zeros, as any other.
    for (size_t i = 1; i + 1 < results.size(); ++i)
      if (!results[i].defined() && wanted[i]) results[i] = torch::zeros_like(saved[i + 2]);
    results[0] = grad_rows;
    return results;
  }
};

}  // namespace

torch::Tensor grouped_swiglu(const torch::Tensor& rows, const std::vector<int64_t>& counts,
                             const std::vector<ExpertWeights>& experts) {
  variable_list weights;
  for (const auto& expert : experts)
    weights.insert(weights.end(), {expert.gate, expert.up, expert.down});
  return GroupedSwiGlu::apply(rows, at::TensorList(weights), counts);
}

}  // namespace deepseek_train::models
