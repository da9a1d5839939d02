// The layers of Transformer. Shape letters as in blocks.h.
#pragma once

#include "deepseek_train/models/blocks.h"
#include "deepseek_train/models/rms_norm.h"
#include "deepseek_train/ops/linear.h"

namespace deepseek_train::models {

// Pre-norm: attention, then MLP, each added to what came in.
class DecoderLayer : public torch::nn::Module {
 public:
  DecoderLayer(const BlockSite& site, const BlockRegistry& blocks);
  torch::Tensor forward(const torch::Tensor& hidden_BTD, const ForwardContext& context);
  AttentionBlock& attention() { return *self_attn_; }
  MlpBlock& mlp() { return *mlp_; }

 private:
  std::shared_ptr<AttentionBlock> self_attn_;
  std::shared_ptr<MlpBlock> mlp_;
  std::shared_ptr<RmsNorm> input_layernorm_, post_attention_layernorm_;
};

// Multi-token prediction (DeepSeek-V3, arXiv 2412.19437, section 2.2): a decoder layer behind the
// last one, which sees the model's hidden state of a token together with the next token's
// embedding, and predicts the one after.
class MtpLayer final : public DecoderLayer {
 public:
  MtpLayer(const BlockSite& site, const BlockRegistry& blocks);
  // hidden [B, T, D] and the embeddings of the tokens that follow, [B, T, D] -> [B, T, D], normed.
  torch::Tensor predict(const torch::Tensor& hidden_BTD, const torch::Tensor& next_embeddings_BTD,
                        const ForwardContext& context);

 private:
  std::shared_ptr<RmsNorm> enorm_, hnorm_, shared_head_norm_;
  std::shared_ptr<ops::Linear> eh_proj_;
};

// Hugging Face's "model.": embedding, layers, last norm.
class Decoder final : public torch::nn::Module {
 public:
  Decoder(const ModelConfig& config, const BlockRegistry& blocks, torch::Device device,
          collectives::Communicator* expert_ranks);

  // Throws InvalidArgument naming the first id that is outside the vocabulary.
  torch::Tensor embed(const torch::Tensor& input_ids, at::ScalarType dtype);
  torch::Tensor forward(torch::Tensor hidden_BTD, const ForwardContext& context);
  const std::vector<std::shared_ptr<DecoderLayer>>& layers() const { return layers_; }
  const std::vector<std::shared_ptr<MtpLayer>>& mtp_layers() const { return mtp_layers_; }

  torch::Tensor embedding_weight;  // [V, D]

 private:
  std::vector<std::shared_ptr<DecoderLayer>> layers_;
  std::vector<std::shared_ptr<MtpLayer>> mtp_layers_;
  std::shared_ptr<RmsNorm> norm_;
};

}  // namespace deepseek_train::models
