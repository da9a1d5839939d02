// Our side of bench_moe.py: forward and backward of one mixture-of-experts block.
// usage: bench_moe INPUT.safetensors OUTPUT.safetensors float32|bfloat16 EXPERTS_PER_TOKEN SECONDS
// INPUT holds the block's weights under Hugging Face's names, `hidden` [1, T, D] and `gradient` of
// the same shape. OUTPUT: `output`, `grad_hidden`, and `seconds` of each repeat.
#include <chrono>
#include <iostream>
#include <string>

#include "deepseek_train/core/env.h"
#include "deepseek_train/formats/torch/tensor_file.h"
#include "deepseek_train/models/blocks.h"

namespace {

using namespace deepseek_train;

models::ModelConfig config_of(const formats::SafetensorsFile& file, int64_t chosen) {
  models::ModelConfig config;
  auto gate = formats::as_tensor(file.get("gate.weight"));
  const auto I = formats::as_tensor(file.get("experts.0.up_proj.weight")).size(0);
  const auto shared = formats::as_tensor(file.get("shared_experts.up_proj.weight")).size(0);
  config.hidden_size = gate.size(1);
  config.moe = models::MoeConfig{.router = models::RouterKind::kSoftmax,
                                 .n_routed_experts = gate.size(0),
                                 .n_shared_experts = shared / I,
                                 .num_experts_per_tok = chosen,
                                 .moe_intermediate_size = I};
  return config;
}

}  // namespace

int main(int, char** argv) try {
  formats::SafetensorsFile file(posix_env(), argv[1]);
  const auto dtype = std::string(argv[3]) == "bfloat16" ? at::kBFloat16 : at::kFloat;
  const auto config = config_of(file, std::stoll(argv[4]));
  auto block = models::BlockRegistry().make_mlp({config});
  {
    torch::NoGradGuard no_grad;
    for (auto& item : block->named_parameters())
      item.value().copy_(formats::as_tensor(file.get(item.key())));
  }
  block->to(dtype);
  auto hidden = formats::as_tensor(file.get("hidden")).to(dtype).clone().requires_grad_();
  auto gradient = formats::as_tensor(file.get("gradient")).to(dtype).clone();
  std::vector<double> seconds;
  torch::Tensor output;
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(std::stod(argv[5]));
  while (seconds.size() < 3 || Clock::now() < end) {
    hidden.mutable_grad().reset();
    block->zero_grad();
    auto begin = Clock::now();
    output = block->forward(hidden, {});
    output.backward(gradient);
    seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  formats::write_tensors(posix_env(), argv[2],
                         {{"output", output.detach().to(at::kFloat)},
                          {"grad_hidden", hidden.grad().to(at::kFloat)},
                          {"seconds", torch::tensor(seconds)}});
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
