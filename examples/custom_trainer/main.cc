// A training loop of one's own on the library's parts: a plain torch::nn::Module, its gradients
// summed over the ranks, a sampler that gives every rank its share. Learns which of two sines a
// noisy wave is.
#include <torch/torch.h>

#include <cstdio>

#include "deepseek_train/deepseek_train.h"

using namespace deepseek_train;

namespace {

constexpr int64_t kSamples = 512, kLength = 32;

// Sample i: a wave of low or high frequency with noise, and which of the two it is.
std::pair<torch::Tensor, torch::Tensor> make_data() {
  auto generator = at::detail::createCPUGenerator(/*seed=*/1);
  auto label = torch::arange(kSamples).remainder(2);
  auto time = torch::arange(kLength).to(at::kFloat) / kLength;
  auto wave = torch::sin(time * 6.28f * (1 + 2 * label.to(at::kFloat)).unsqueeze(1));
  return {wave + 0.5f * torch::randn({kSamples, kLength}, generator), label};
}

torch::nn::Sequential make_model() {
  return torch::nn::Sequential(torch::nn::Linear(kLength, 16), torch::nn::Tanh(),
                               torch::nn::Linear(16, 2));
}

// The next `count` samples of this rank.
torch::Tensor next_samples(data::DistributedSampler& sampler, int64_t count) {
  std::vector<int64_t> indices;
  while (static_cast<int64_t>(indices.size()) < count) {
    if (auto index = sampler.next()) {
      indices.push_back(*index);
    } else {
      sampler.set_epoch(sampler.epoch() + 1);
    }
  }
  return torch::tensor(indices);
}

}  // namespace

int main() {
  auto communicator =
      collectives::make_communicator({.launch = collectives::launch_info_from_environment()});
  auto [waves, labels] = make_data();
  auto model = make_model();
  training::DistributedDataParallel ddp(*model, *communicator);
  training::AdamW optimizer(*model, {.weight_decay = 0.0});
  data::DistributedSampler sampler({.num_samples = kSamples,
                                    .num_replicas = communicator->size(),
                                    .rank = communicator->rank()});

  const int64_t batch = 64 / communicator->size();
  for (int step = 0; step < 100; ++step) {
    auto mine = next_samples(sampler, batch);
    ddp.zero_grad();
    auto loss = at::cross_entropy_loss(model->forward(waves.index_select(0, mine)),
                                       labels.index_select(0, mine), {}, at::Reduction::Sum);
    (loss / static_cast<double>(batch * communicator->size())).backward();
    ddp.wait();
    optimizer.step(/*learning_rate=*/1e-2);
  }

  auto right = (model->forward(waves).argmax(1) == labels).to(at::kFloat).mean().item<float>();
  if (communicator->rank() == 0)
    std::printf("%d ranks, accuracy %.3f\n", communicator->size(), right);
  return right > 0.9f ? 0 : 1;
}
