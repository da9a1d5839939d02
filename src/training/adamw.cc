#include "deepseek_train/training/adamw.h"

#include <cmath>
#include <optional>

#include "deepseek_train/core/error.h"

namespace deepseek_train::training {

AdamW::AdamW(torch::nn::Module& module, const AdamWOptions& options)
    : options_(options), groups_(2) {
  groups_[0].weight_decay = options.weight_decay;
  for (const auto& parameter : module.named_parameters()) {
    const auto& value = parameter.value();
    if (!value.requires_grad()) continue;
    auto& group = groups_[value.dim() >= 2 ? 0 : 1];
    group.names.push_back(parameter.key());
    group.parameters.push_back(value);
    group.averages.push_back(torch::zeros_like(value, at::MemoryFormat::Contiguous));
    group.squares.push_back(torch::zeros_like(value, at::MemoryFormat::Contiguous));
    group.steps.push_back(torch::zeros({}, at::kFloat));
  }
}

void AdamW::step(double learning_rate, double gradient_scale) {
  torch::NoGradGuard no_grad;
  ++num_steps_;
  // The fused kernel divides by grad_scale.
  std::optional<torch::Tensor> divisor;
  if (gradient_scale != 1.0) divisor = torch::full({}, 1.0 / gradient_scale, at::kFloat);
  for (auto& group : groups_) {
    if (group.parameters.empty()) continue;  // as the vectors of a model with adapters
    std::vector<torch::Tensor> gradients;
    for (const auto& parameter : group.parameters) gradients.push_back(parameter.grad());
    for (auto& step : group.steps) step.fill_(static_cast<double>(num_steps_));
    at::_fused_adamw_(group.parameters, gradients, group.averages, group.squares,
                      /*max_exp_avg_sqs=*/{}, group.steps, learning_rate, options_.beta1,
                      options_.beta2, group.weight_decay, options_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false, divisor, /*found_inf=*/{});
  }
}

std::vector<formats::NamedTensor> AdamW::state_dict() const {
  std::vector<formats::NamedTensor> state = {{"step", torch::tensor(num_steps_, at::kLong)}};
  for (const auto& group : groups_) {
    for (size_t i = 0; i < group.names.size(); ++i) {
      state.push_back({group.names[i] + ".exp_avg", group.averages[i]});
      state.push_back({group.names[i] + ".exp_avg_sq", group.squares[i]});
    }
  }
  return state;
}

void AdamW::load_state_dict(const formats::SafetensorsFile& file) {
  torch::NoGradGuard no_grad;
  auto wanted = state_dict();
  DST_CHECK_AS(DataCorruption, file.tensors().size() == wanted.size(), file.path(), " has ",
               file.tensors().size(), " tensors, the optimizer has ", wanted.size(),
               "; is it of another model?");
  for (const auto& [name, tensor] : wanted) {
    const auto& stored = file.get(name);
    DST_CHECK_AS(DataCorruption, stored.shape == tensor.sizes().vec(), file.path(), ": ", name,
                 " has shape ", stored.shape, ", wanted ", tensor.sizes().vec());
  }
  for (auto& [name, tensor] : wanted) tensor.copy_(formats::as_tensor(file.get(name)));
  num_steps_ = wanted.front().tensor.item<int64_t>();
}

double gradient_norm(const std::vector<torch::Tensor>& flat_gradients) {
  double sum = 0;
  for (const auto& gradient : flat_gradients) {
    const double norm = gradient.norm().item<double>();
    sum += norm * norm;
  }
  return std::sqrt(sum);
}

}  // namespace deepseek_train::training
