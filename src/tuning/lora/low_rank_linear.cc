#include "src/tuning/lora/low_rank_linear.h"

namespace deepseek_train::tuning {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What autograd's context can carry of a LinearMethod.
struct BaseHolder final : torch::CustomClassHolder {
  explicit BaseHolder(std::shared_ptr<ops::LinearMethod> held) : method(std::move(held)) {}
  std::shared_ptr<ops::LinearMethod> method;
};

// Autograd wants its arguments defined or absent.
std::optional<torch::Tensor> optional_of(const torch::Tensor& x) {
  return x.defined() ? std::optional(x) : std::nullopt;
}

torch::Tensor as_matrix(const torch::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

class LowRankLinear final : public torch::autograd::Function<LowRankLinear> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& input,
                               const torch::Tensor& a, const torch::Tensor& b,
                               const std::optional<torch::Tensor>& weight,
                               const std::optional<torch::Tensor>& bias, double scale,
                               const std::shared_ptr<ops::LinearMethod>& base) {
    const auto dtype = input.scalar_type();
    auto x = as_matrix(input);
    auto narrow_a = a.to(dtype), narrow_b = b.to(dtype);
    auto y = base->apply(x, weight.value_or(torch::Tensor()), bias.value_or(torch::Tensor()));
    auto projected = at::mm(x, narrow_a.t());
    y.addmm_(projected, narrow_b.t(), 1, scale);
    context->save_for_backward(
        {x, projected, narrow_a, narrow_b, weight.value_or(torch::Tensor())});
    context->saved_data["scale"] = scale;
    context->saved_data["base"] = c10::IValue::make_capsule(c10::make_intrusive<BaseHolder>(base));
    context->saved_data["sizes"] = input.sizes().vec();
    auto sizes = input.sizes().vec();
    sizes.back() = y.size(-1);
    return at::_unsafe_view(y, sizes);  // a result of its own, not a view of one
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &projected = saved[1], &a = saved[2], &b = saved[3];
    const double scale = context->saved_data["scale"].toDouble();
    auto g = as_matrix(gradients[0]);
    auto down = at::mm(g, b).mul_(scale);  // [M, R]
    auto grad_a = at::mm(down.t(), x).to(at::kFloat);
    auto grad_b = at::mm(g.t(), projected).to(at::kFloat).mul_(scale);
    torch::Tensor grad_x;
    if (context->needs_input_grad(0)) {
      auto base =
          c10::static_intrusive_pointer_cast<BaseHolder>(context->saved_data["base"].toCapsule());
      grad_x = at::mm(g, base->method->dense_weight(saved[4], g.scalar_type()));
      grad_x.addmm_(down, a);
      grad_x = grad_x.view(context->saved_data["sizes"].toIntVector());
    }
    return {grad_x, grad_a, grad_b, {}, {}, {}, {}};
  }
};

}  // namespace

torch::Tensor low_rank_linear(const torch::Tensor& input,
                              const std::shared_ptr<ops::LinearMethod>& base,
                              const torch::Tensor& weight, const torch::Tensor& bias,
                              const LowRank& adapter) {
  return LowRankLinear::apply(input, adapter.a, adapter.b, optional_of(weight), optional_of(bias),
                              adapter.scale, base);
}

}  // namespace deepseek_train::tuning
