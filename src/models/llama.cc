#include "deepseek_train/models/llama.h"

#include "deepseek_train/core/error.h"
#include "src/models/llama_layers.h"

namespace deepseek_train::models {

KvCache::KvCache(const LlamaConfig& config, int64_t batch_size, int64_t capacity,
                 at::ScalarType dtype)
    : lengths(torch::zeros({batch_size}, at::kLong)) {
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    auto make = [&] {
      return torch::zeros({batch_size, config.num_key_value_heads, capacity, config.head_dim},
                          dtype);
    };
    keys_.push_back(make());
    values_.push_back(make());
  }
}

LlamaModel::LlamaModel(const LlamaConfig& config) : config_(config) {
  decoder_ = register_module("model", std::make_shared<LlamaDecoder>(config));
  lm_head_ =
      std::make_shared<ops::Linear>(ops::LinearOptions{config.hidden_size, config.vocab_size});
  if (config.tie_word_embeddings) {
    // Not registered: the embedding owns the weight, and it must be trained and saved once.
    lm_head_->share_weight(decoder_->embedding_weight);
  } else {
    register_module("lm_head", lm_head_);
  }
}

void LlamaModel::initialize(uint64_t seed) {
  torch::NoGradGuard no_grad;
  auto generator = at::detail::createCPUGenerator(seed);
  for (auto& parameter : parameters()) {
    if (parameter.dim() == 1) {
      parameter.fill_(1.0);
    } else {
      parameter.normal_(0.0, 0.02, generator);
    }
  }
}

torch::Tensor LlamaModel::hidden_states(const torch::Tensor& input_ids) {
  LayerContext context;
  std::tie(context.cos, context.sin) =
      decoder_->rotary(torch::arange(input_ids.size(1), at::kLong), compute_dtype_);
  return decoder_->forward(decoder_->embed(input_ids, compute_dtype_), context);
}

torch::Tensor LlamaModel::prefill(const torch::Tensor& input_ids, const torch::Tensor& lengths,
                                  KvCache& cache) {
  DST_CHECK(input_ids.size(1) <= cache.capacity(), "prompts of ", input_ids.size(1),
            " tokens do not fit a cache of ", cache.capacity());
  LayerContext context;
  context.cache = &cache;
  std::tie(context.cos, context.sin) =
      decoder_->rotary(torch::arange(input_ids.size(1), at::kLong), compute_dtype_);
  auto hidden = decoder_->forward(decoder_->embed(input_ids, compute_dtype_), context);
  cache.lengths = lengths.clone();
  return hidden;
}

torch::Tensor LlamaModel::decode(const torch::Tensor& input_ids, KvCache& cache) {
  const auto longest = cache.lengths.max().item<int64_t>();
  DST_CHECK(longest < cache.capacity(), "the cache holds ", cache.capacity(),
            " tokens a row and one row is full");
  LayerContext context;
  context.cache = &cache;
  context.decoding = true;
  auto places = torch::arange(cache.capacity(), at::kLong);
  context.mask =
      (places.unsqueeze(0) <= cache.lengths.unsqueeze(1)).view({-1, 1, 1, cache.capacity()});
  std::tie(context.cos, context.sin) = decoder_->rotary(cache.lengths.unsqueeze(1), compute_dtype_);
  auto hidden = decoder_->forward(decoder_->embed(input_ids, compute_dtype_), context);
  cache.lengths = cache.lengths + 1;
  return hidden;
}

void LlamaModel::set_numerics(Numerics numerics) {
  for (auto& module : modules(/*include_self=*/false))
    if (auto* norm = dynamic_cast<RmsNorm*>(module.get())) norm->numerics = numerics;
}

}  // namespace deepseek_train::models
