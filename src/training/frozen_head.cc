#include "src/training/frozen_head.h"

#include <algorithm>

namespace deepseek_train::training {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Enough rows that the projection runs at full speed.
constexpr int64_t kRowsAtOnce = 512;

// The loss of some positions; its gradient at `hidden` goes to `gradient`.
torch::Tensor loss_and_gradient(CausalLm& model, const torch::Tensor& hidden,
                                const torch::Tensor& targets, torch::Tensor gradient) {
  auto leaf = hidden.detach().set_requires_grad(true);
  torch::Tensor logits;
  {
    torch::AutoGradMode with_gradients(true);
    logits = model.logits(leaf);
  }
  auto places = targets.unsqueeze(1);
  auto probabilities = logits.detach().to(at::kFloat).log_softmax(-1);
  auto loss = probabilities.gather(1, places).sum().neg();
  probabilities.exp_();
  probabilities.scatter_add_(1, places, torch::full_like(places, -1, at::kFloat));
  gradient.copy_(
      torch::autograd::grad({logits}, {leaf}, {probabilities.to(logits.scalar_type())})[0]);
  return loss;
}

class FrozenHeadCrossEntropy final : public torch::autograd::Function<FrozenHeadCrossEntropy> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& hidden,
                               const torch::Tensor& targets, CausalLm* model) {
    auto gradient = torch::empty_like(hidden);
    auto loss = torch::zeros({}, at::kFloat);
    for (int64_t begin = 0; begin < hidden.size(0); begin += kRowsAtOnce) {
      const auto count = std::min(kRowsAtOnce, hidden.size(0) - begin);
      loss += loss_and_gradient(*model, hidden.narrow(0, begin, count),
                                targets.narrow(0, begin, count), gradient.narrow(0, begin, count));
    }
    context->save_for_backward({gradient});
    return loss;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    auto gradient = context->get_saved_variables()[0];
    return {gradient * gradients[0].to(gradient.scalar_type()), {}, {}};
  }
};

}  // namespace

bool has_frozen_head(CausalLm& model, const torch::Tensor& hidden_ND) {
  return !model.logits(hidden_ND.detach().narrow(0, 0, 0)).requires_grad();
}

torch::Tensor frozen_head_cross_entropy(CausalLm& model, const torch::Tensor& hidden_ND,
                                        const torch::Tensor& targets_N) {
  return FrozenHeadCrossEntropy::apply(hidden_ND, targets_N, &model);
}

}  // namespace deepseek_train::training
