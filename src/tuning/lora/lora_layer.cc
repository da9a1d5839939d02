#include "src/tuning/lora/lora_layer.h"

#include <cmath>

#include "deepseek_train/core/error.h"

namespace deepseek_train::tuning {
namespace {

constexpr const char* kA = "lora_A";
constexpr const char* kB = "lora_B";
constexpr const char* kMagnitude = "lora_magnitude_vector";

// Registers `value` as GROUP.NAME.weight below the layer.
torch::Tensor add_parameter(ops::Linear& linear, const char* group, const std::string& name,
                            const torch::Tensor& value) {
  auto groups = linear.named_children();
  auto* found = groups.find(group);
  auto parent =
      found ? *found : linear.register_module(group, std::make_shared<torch::nn::Module>());
  auto holder = parent->register_module(name, std::make_shared<torch::nn::Module>());
  holder->train(linear.is_training());
  return holder->register_parameter("weight", value);
}

void remove_parameter(ops::Linear& linear, const char* group, const std::string& name) {
  auto groups = linear.named_children();
  auto* parent = groups.find(group);
  if (!parent) return;
  if ((*parent)->named_children().contains(name)) (*parent)->unregister_module(name);
  if ((*parent)->children().empty()) linear.unregister_module(group);
}

// W + scale B A, float32.
torch::Tensor added(const torch::Tensor& weight, const LowRank& low_rank) {
  return torch::addmm(weight.to(at::kFloat), low_rank.b, low_rank.a, 1, low_rank.scale);
}

torch::Tensor row_norms(const torch::Tensor& matrix) { return matrix.norm(2, /*dim=*/1); }

}  // namespace

std::shared_ptr<LoraLayer> LoraLayer::wrap(ops::Linear& linear) {
  std::shared_ptr<LoraLayer> layer(new LoraLayer(linear));
  linear.set_method(layer);
  return layer;
}

void LoraLayer::unwrap() {
  while (!adapters_.empty()) remove(std::string(adapters_.begin()->first));
  auto base = base_;  // this object may end with the next line
  linear_.set_method(base);
}

void LoraLayer::add(const std::string& name, const Options& options, at::Generator generator) {
  torch::NoGradGuard no_grad;
  const auto K = linear_.in_features(), N = linear_.out_features();
  const double bound = 1 / std::sqrt(static_cast<double>(K));  // Kaiming's with a = sqrt(5)
  auto a = torch::empty({options.rank, K}).uniform_(-bound, bound, generator);
  Adapter adapter{.low_rank = {add_parameter(linear_, kA, name, a),
                               add_parameter(linear_, kB, name, torch::zeros({N, options.rank})),
                               options.scale},
                  .dropout = options.dropout};
  if (options.dora)
    adapter.magnitude = add_parameter(linear_, kMagnitude, name,
                                      row_norms(base_->dense_weight(linear_.weight, at::kFloat)));
  adapters_[name] = adapter;
}

void LoraLayer::remove(const std::string& name) {
  auto found = adapters_.find(name);
  if (found == adapters_.end()) return;
  if (active_ == &found->second) active_ = nullptr;
  for (const char* group : {kA, kB, kMagnitude}) remove_parameter(linear_, group, name);
  adapters_.erase(found);
}

void LoraLayer::activate(const std::string& name) {
  auto found = adapters_.find(name);
  active_ = found == adapters_.end() ? nullptr : &found->second;
  for (auto& [unused, adapter] : adapters_) {
    const bool trains = &adapter == active_;
    adapter.low_rank.a.requires_grad_(trains);
    adapter.low_rank.b.requires_grad_(trains);
    if (adapter.magnitude.defined()) adapter.magnitude.requires_grad_(trains);
  }
}

std::vector<formats::NamedTensor> LoraLayer::tensors(const std::string& name) const {
  const auto& adapter = adapters_.at(name);
  std::vector<formats::NamedTensor> tensors = {{concat(kA, ".weight"), adapter.low_rank.a},
                                               {concat(kB, ".weight"), adapter.low_rank.b}};
  // PEFT's file has no ".weight" here.
  if (adapter.magnitude.defined()) tensors.push_back({kMagnitude, adapter.magnitude});
  return tensors;
}

torch::Tensor LoraLayer::apply(const torch::Tensor& input, const torch::Tensor& weight,
                               const torch::Tensor& bias) {
  if (!active_ || merged_) return base_->apply(input, weight, bias);
  if (active_->magnitude.defined()) return apply_dora(input, weight, bias, *active_);
  if (active_->dropout == 0 || !linear_.is_training())
    return low_rank_linear(input, base_, weight, bias, active_->low_rank);
  // The base sees all of its input, the adapter a part of it.
  auto kept = torch::dropout(input, active_->dropout, /*train=*/true);
  const auto& [a, b, scale] = active_->low_rank;
  auto update = at::linear(at::linear(kept, a.to(input.scalar_type())), b.to(input.scalar_type()));
  return torch::add(base_->apply(input, weight, bias), update, scale);
}

// y = m / |W + s B A| * (W + s B A) x + bias, the norm held constant (section 4.3 of the paper).
// With dropout PEFT drops inputs of the difference to the base only: W x stays whole.
torch::Tensor LoraLayer::apply_dora(const torch::Tensor& input, const torch::Tensor& weight,
                                    const torch::Tensor& bias, const Adapter& adapter) const {
  const auto dtype = input.scalar_type();
  torch::Tensor norms;
  {
    torch::NoGradGuard no_grad;
    norms = row_norms(added(base_->dense_weight(weight, at::kFloat), adapter.low_rank));
  }
  auto direction = (adapter.magnitude / norms).to(dtype);
  const bool drops = adapter.dropout > 0 && linear_.is_training();
  auto kept = drops ? torch::dropout(input, adapter.dropout, /*train=*/true) : input;
  auto y = low_rank_linear(kept, base_, weight, {}, adapter.low_rank) * direction;
  if (drops) y = y + base_->apply(input - kept, weight, {});
  return bias.defined() ? y + bias.to(dtype) : y;
}

torch::Tensor LoraLayer::adapted_weight(const torch::Tensor& weight, const Adapter& adapter) const {
  auto sum = added(base_->dense_weight(weight, at::kFloat), adapter.low_rank);
  if (!adapter.magnitude.defined()) return sum;
  return sum * (adapter.magnitude / row_norms(sum)).unsqueeze(1);
}

torch::Tensor LoraLayer::dense_weight(const torch::Tensor& weight, at::ScalarType dtype) {
  if (!active_ || merged_) return base_->dense_weight(weight, dtype);
  return adapted_weight(weight, *active_).to(dtype);
}

void LoraLayer::check_mergeable(const std::string& module) const {
  DST_CHECK(!active_ || linear_.has_weight(), "an adapter cannot be merged into ", module,
            ", which is computed as \"", base_->name(),
            "\"; load the floating-point model, load the adapter and merge there");
}

void LoraLayer::merge(bool keep) {
  torch::NoGradGuard no_grad;
  if (!active_) return;
  auto& weight = linear_.weight;
  auto sum = adapted_weight(weight, *active_);
  if (keep) original_ = weight.detach().clone();
  weight.copy_(sum);
  merged_ = true;
}

void LoraLayer::unmerge() {
  torch::NoGradGuard no_grad;
  if (!merged_) return;
  linear_.weight.copy_(original_);
  original_.reset();
  merged_ = false;
}

}  // namespace deepseek_train::tuning
