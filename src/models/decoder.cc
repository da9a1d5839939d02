#include "src/models/decoder.h"

#include "deepseek_train/core/error.h"

namespace deepseek_train::models {
namespace {

// A module that only groups children under a name ("embed_tokens", "layers").
std::shared_ptr<torch::nn::Module> make_group() { return std::make_shared<torch::nn::Module>(); }

std::shared_ptr<RmsNorm> make_norm(const BlockSite& site) {
  return std::make_shared<RmsNorm>(site.config.hidden_size, site.config.rms_norm_eps, site.device);
}

}  // namespace

DecoderLayer::DecoderLayer(const BlockSite& site, const BlockRegistry& blocks) {
  self_attn_ = register_module("self_attn", blocks.make_attention(site));
  mlp_ = register_module("mlp", blocks.make_mlp(site));
  input_layernorm_ = register_module("input_layernorm", make_norm(site));
  post_attention_layernorm_ = register_module("post_attention_layernorm", make_norm(site));
}

torch::Tensor DecoderLayer::forward(const torch::Tensor& hidden_BTD,
                                    const ForwardContext& context) {
  auto attended =
      hidden_BTD +
      self_attn_->forward(input_layernorm_->forward(hidden_BTD, context.numerics), context);
  return attended +
         mlp_->forward(post_attention_layernorm_->forward(attended, context.numerics), context);
}

MtpLayer::MtpLayer(const BlockSite& site, const BlockRegistry& blocks)
    : DecoderLayer(site, blocks) {
  enorm_ = register_module("enorm", make_norm(site));
  hnorm_ = register_module("hnorm", make_norm(site));
  const auto D = site.config.hidden_size;
  eh_proj_ = register_module(
      "eh_proj", std::make_shared<ops::Linear>(ops::LinearOptions{2 * D, D, false, site.device}));
  auto head = register_module("shared_head", make_group());
  shared_head_norm_ = head->register_module("norm", make_norm(site));
}

torch::Tensor MtpLayer::predict(const torch::Tensor& hidden_BTD,
                                const torch::Tensor& next_embeddings_BTD,
                                const ForwardContext& context) {
  auto both = torch::cat({enorm_->forward(next_embeddings_BTD, context.numerics),
                          hnorm_->forward(hidden_BTD, context.numerics)},
                         -1);
  auto hidden = DecoderLayer::forward(eh_proj_->forward(both), context);
  return shared_head_norm_->forward(hidden, context.numerics);
}

Decoder::Decoder(const ModelConfig& config, const BlockRegistry& blocks, torch::Device device,
                 collectives::Communicator* expert_ranks) {
  auto embedding = register_module("embed_tokens", make_group());
  embedding_weight = embedding->register_parameter(
      "weight", torch::empty({config.vocab_size, config.hidden_size}, device));
  auto group = register_module("layers", make_group());
  const auto N = config.num_hidden_layers;
  for (int64_t i = 0; i < N; ++i)
    layers_.push_back(group->register_module(
        std::to_string(i),
        std::make_shared<DecoderLayer>(BlockSite{config, i, device, expert_ranks}, blocks)));
  for (int64_t i = N; i < N + config.num_nextn_predict_layers; ++i)
    mtp_layers_.push_back(group->register_module(
        std::to_string(i),
        std::make_shared<MtpLayer>(BlockSite{config, i, device, expert_ranks}, blocks)));
  norm_ = register_module("norm", make_norm({config, N, device}));
}

torch::Tensor Decoder::embed(const torch::Tensor& input_ids, at::ScalarType dtype) {
  const auto V = embedding_weight.size(0);
  if (input_ids.numel() == 0) return torch::embedding(embedding_weight, input_ids).to(dtype);
  auto [lowest, highest] = input_ids.aminmax();
  const auto low = lowest.item<int64_t>(), high = highest.item<int64_t>();
  DST_CHECK(low >= 0 && high < V, "token id ", low < 0 ? low : high,
            " is outside the model's vocabulary of ", V,
            " entries; was the text encoded with another model's tokenizer?");
  return torch::embedding(embedding_weight, input_ids).to(dtype);
}

torch::Tensor Decoder::forward(torch::Tensor hidden_BTD, const ForwardContext& context) {
  for (auto& layer : layers_) hidden_BTD = layer->forward(hidden_BTD, context);
  return norm_->forward(hidden_BTD, context.numerics);
}

}  // namespace deepseek_train::models
