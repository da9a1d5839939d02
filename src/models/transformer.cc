#include "deepseek_train/models/transformer.h"

#include "deepseek_train/core/error.h"
#include "src/models/decoder.h"
#include "src/models/expert_exchange.h"
#include "src/models/mixture_of_experts.h"
#include "src/models/rotary_embedding.h"

namespace deepseek_train::models {

Transformer::Transformer(const ModelConfig& config, const BlockRegistry& blocks,
                         torch::Device device, collectives::Communicator* expert_ranks)
    : config_(config), rotary_(std::make_unique<RotaryEmbedding>(config)) {
  if (config.moe) local_experts_ = expert_shard(expert_ranks, config.moe->n_routed_experts);
  decoder_ =
      register_module("model", std::make_shared<Decoder>(config, blocks, device, expert_ranks));
  lm_head_ = std::make_shared<ops::Linear>(
      ops::LinearOptions{config.hidden_size, config.vocab_size, false, device});
  if (config.tie_word_embeddings) {
    // Not registered: the embedding owns the weight, and it must be trained and saved once.
    lm_head_->share_weight(decoder_->embedding_weight);
  } else {
    register_module("lm_head", lm_head_);
  }
}

Transformer::~Transformer() = default;

void Transformer::initialize(uint64_t seed) {
  torch::NoGradGuard no_grad;
  auto generator = at::detail::createCPUGenerator(seed);
  for (auto& item : named_parameters()) {
    if (item.value().dim() == 1) {
      item.value().fill_(item.key().ends_with(".bias") ? 0.0 : 1.0);
    } else {
      item.value().normal_(0.0, 0.02, generator);
    }
  }
}

ForwardContext Transformer::context_for(const torch::Tensor& positions) const {
  ForwardContext context;
  context.numerics = numerics_;
  // V2 turns q and k in float32 and rounds the result; all others round the tables first.
  const bool wide = config_.architecture == Architecture::kDeepseekV2;
  std::tie(context.cos, context.sin) =
      rotary_->tables(positions, wide ? at::kFloat : compute_dtype_);
  return context;
}

// A query sees its window's width of places, itself included. Nothing to mask while all fit in.
void Transformer::mask_window(ForwardContext& context, int64_t num_tokens,
                              torch::Device device) const {
  if (!config_.sliding_window || num_tokens <= *config_.sliding_window) return;
  auto all = torch::ones({num_tokens, num_tokens}, torch::dtype(at::kBool).device(device));
  context.window_mask = all.tril().triu(1 - *config_.sliding_window);
}

torch::Tensor Transformer::hidden_states(const torch::Tensor& input_ids, RoutingRecord* routing) {
  const auto T = input_ids.size(1);
  auto context = context_for(torch::arange(T, input_ids.options()));
  mask_window(context, T, input_ids.device());
  context.routing = routing;
  if (routing) context.counted = routing->counted;
  return decoder_->forward(decoder_->embed(input_ids, compute_dtype_), context);
}

torch::Tensor Transformer::prefill(const torch::Tensor& input_ids, const torch::Tensor& lengths,
                                   KvCache& cache) {
  const auto T = input_ids.size(1);
  DST_CHECK(T <= cache.capacity(), "prompts of ", T, " tokens do not fit a cache of ",
            cache.capacity());
  auto context = context_for(torch::arange(T, input_ids.options()));
  mask_window(context, T, input_ids.device());
  context.cache = &cache;
  auto hidden = decoder_->forward(decoder_->embed(input_ids, compute_dtype_), context);
  cache.lengths = lengths.clone();
  return hidden;
}

torch::Tensor Transformer::decode(const torch::Tensor& input_ids, KvCache& cache) {
  const auto longest = cache.lengths.max().item<int64_t>();
  DST_CHECK(longest < cache.capacity(), "the cache holds ", cache.capacity(),
            " tokens a row and one row is full");
  auto context = context_for(cache.lengths.unsqueeze(1));
  context.cache = &cache;
  context.decoding = true;
  auto places = torch::arange(cache.capacity(), input_ids.options()).unsqueeze(0);
  auto lengths = cache.lengths.unsqueeze(1);
  auto seen = places <= lengths;
  context.mask = seen.view({-1, 1, 1, cache.capacity()});
  if (config_.sliding_window)
    context.window_mask = seen.logical_and(places > lengths - *config_.sliding_window)
                              .view({-1, 1, 1, cache.capacity()});
  auto hidden = decoder_->forward(decoder_->embed(input_ids, compute_dtype_), context);
  cache.lengths = cache.lengths + 1;
  return hidden;
}

torch::Tensor Transformer::mtp_hidden_states(int64_t depth, const torch::Tensor& hidden,
                                             const torch::Tensor& input_ids,
                                             RoutingRecord* routing) {
  DST_CHECK(depth >= 0 && depth < config_.num_nextn_predict_layers, "multi-token prediction layer ",
            depth, " was asked for, the model has ", config_.num_nextn_predict_layers);
  const auto T = hidden.size(1) - 1;
  auto context = context_for(torch::arange(T, input_ids.options()));
  context.routing = routing;
  // A position counts when the token it is given beside its hidden state does.
  if (routing && routing->counted.defined())
    context.counted = routing->counted.narrow(1, routing->counted.size(1) - T, T);
  auto next = decoder_->embed(input_ids.narrow(1, 1, T), compute_dtype_);
  return decoder_->mtp_layers()[static_cast<size_t>(depth)]->predict(hidden.narrow(1, 0, T), next,
                                                                     context);
}

KvCache Transformer::make_cache(int64_t batch_size, int64_t capacity) const {
  std::vector<CacheLayout> layouts;
  for (const auto& layer : decoder_->layers()) layouts.push_back(layer->attention().cache_layout());
  return KvCache(layouts, batch_size, capacity,
                 decoder_->embedding_weight.options().dtype(compute_dtype_).requires_grad(false));
}

MlpBlock& Transformer::mlp_of(int64_t layer) const {
  const auto N = config_.num_hidden_layers;
  DST_CHECK(layer >= 0 && layer < N + config_.num_nextn_predict_layers, "the model has no layer ",
            layer);
  if (layer < N) return decoder_->layers()[static_cast<size_t>(layer)]->mlp();
  return decoder_->mtp_layers()[static_cast<size_t>(layer - N)]->mlp();
}

void Transformer::balance_experts(const std::map<int64_t, torch::Tensor>& loads, double gamma) {
  torch::NoGradGuard no_grad;
  if (gamma == 0) return;
  for (const auto& [layer, counts] : loads) {
    auto* experts = dynamic_cast<MixtureOfExperts*>(&mlp_of(layer));
    DST_CHECK(experts != nullptr, "balance_experts got loads of layer ", layer,
              ", which has no experts");
    auto& bias = experts->router().e_score_correction_bias;
    if (!bias.defined()) continue;
    auto load = counts.to(bias.device(), at::kDouble);  // exact: a count beside its mean
    bias += gamma * (load.mean() - load).sign().to(at::kFloat);
  }
}

}  // namespace deepseek_train::models
