// A language model of a few hundred weights: enough to train, resume and compare bit by bit.
#pragma once

#include <torch/torch.h>

#include "deepseek_train/data/dataset.h"
#include "deepseek_train/training/causal_lm.h"

namespace deepseek_train::training {

inline constexpr int64_t kTinyVocabulary = 23;

class TinyLm final : public torch::nn::Module, public CausalLm {
 public:
  explicit TinyLm(uint64_t seed, int64_t size = 12) {
    embedding_ = register_parameter("embedding", torch::empty({kTinyVocabulary, size}));
    mix_ = register_parameter("mix", torch::empty({size, size}));
    head_ = register_parameter("head", torch::empty({kTinyVocabulary, size}));
    norm_ = register_parameter("norm", torch::ones({size}));
    torch::NoGradGuard no_grad;
    auto generator = at::detail::createCPUGenerator(seed);
    for (auto& parameter : parameters())
      if (parameter.dim() == 2) parameter.normal_(0.0, 0.3, generator);
  }
  torch::nn::Module& module() override { return *this; }
  torch::Tensor hidden_states(const torch::Tensor& input_ids) override {
    auto embedded = torch::embedding(embedding_, input_ids);
    // Sees the whole past through a running mean.
    auto past = embedded.cumsum(1) / torch::arange(1, input_ids.size(1) + 1).view({1, -1, 1});
    return torch::tanh(past.matmul(mix_)) * norm_;
  }
  torch::Tensor logits(const torch::Tensor& hidden) override { return hidden.matmul(head_.t()); }

 private:
  torch::Tensor embedding_, mix_, head_, norm_;
};

// Documents of unequal length; the loss is on their second half.
inline data::MemoryDataset tiny_dataset(int64_t count) {
  std::vector<data::Document> documents;
  for (int64_t i = 0; i < count; ++i) {
    data::Document document;
    const int64_t length = 4 + (i * 7) % 9;
    for (int64_t t = 0; t < length; ++t)
      document.tokens.push_back(
          static_cast<uint32_t>((i * 31 + t * (i % 5 + 1)) % kTinyVocabulary));
    document.loss_spans = {{length / 2, length}};
    documents.push_back(document);
  }
  return data::MemoryDataset(std::move(documents));
}

}  // namespace deepseek_train::training
