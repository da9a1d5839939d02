// The two blocks of a decoder layer, attention and MLP, as interfaces: the built-in ones implement
// them, and a user's own replaces them by name (BlockRegistry).
//
// Shape letters: B batch, T tokens, D hidden, H query heads, K key-value heads, E head size.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "deepseek_train/models/model_config.h"

namespace deepseek_train::collectives {
class Communicator;
}

namespace deepseek_train::models {

// How a forward pass computes. kReference does Hugging Face's eager operations in Hugging Face's
// order, so that equal weights give equal numbers with the same libtorch and threads; kFast uses
// fused kernels.
enum class Numerics { kFast, kReference };

// What one layer keeps of a past token: `heads` keys of `key_size` and values of `value_size`
// elements. A value size of zero: the values are the keys' first elements (latent attention).
struct CacheLayout {
  int64_t heads = 0;
  int64_t key_size = 0;
  int64_t value_size = 0;
};

// Keys and values of past tokens: a pair a layer, [B, heads, capacity, size]. Rows may have
// different lengths.
class KvCache {
 public:
  // Memory: B * capacity * (sum over the layers of heads * (key_size + value_size)) elements.
  KvCache(const std::vector<CacheLayout>& layouts, int64_t batch_size, int64_t capacity,
          const torch::TensorOptions& options);

  int64_t capacity() const { return keys.front().size(2); }
  // Bytes that one token of one row takes, over all layers.
  int64_t bytes_per_token() const;

  torch::Tensor lengths;                    // tokens held by each row: [B] int64
  std::vector<torch::Tensor> keys, values;  // a layer's values may be undefined: see CacheLayout
};

// What the mixture-of-experts layers of one forward pass leave behind, by layer. A layer that runs
// again for its backward pass (recomputation) writes the same place: nothing is counted twice.
struct RoutingRecord {
  // From the caller: the positions that count, as padding does not: [B, T] bool. Undefined: all.
  torch::Tensor counted;
  // A layer's sequence-wise balance loss, summed over sequences and not yet times alpha: scalars
  // with gradient.
  std::map<int64_t, torch::Tensor> balance_losses;
  // Counted tokens that each expert got: [experts] int64. No token is ever dropped.
  std::map<int64_t, torch::Tensor> loads;
  // The sum of the routing weights that each expert got from counted tokens: [experts] fp32.
  std::map<int64_t, torch::Tensor> gate_weights;
};

// What every layer of one forward pass shares. Made by Transformer.
struct ForwardContext {
  // Rotary tables, cos and sin: [T, E], or [B, 1, E] when decoding; float32 where the
  // architecture rotates in float32, else in the compute dtype.
  torch::Tensor cos, sin;
  // Null, or where keys and values go: prefill writes a row's first T places, decoding its next.
  KvCache* cache = nullptr;
  bool decoding = false;
  // Which places a query may see, as bool masks that broadcast over [B, H, T, places]; undefined
  // when plain causal attention says it all. The second is for layers with a sliding window.
  torch::Tensor mask, window_mask;
  Numerics numerics = Numerics::kFast;
  RoutingRecord* routing = nullptr;  // null: not wanted
  torch::Tensor counted;             // as in RoutingRecord, of this pass's positions
};

// An attention of any kind: [B, T, D] -> [B, T, D] in the input's dtype, causal. Its parameters'
// names are the checkpoint's below "model.layers.N.self_attn.".
class AttentionBlock : public torch::nn::Module {
 public:
  virtual torch::Tensor forward(const torch::Tensor& hidden_BTD, const ForwardContext& context) = 0;
  virtual CacheLayout cache_layout() const = 0;
};

// [..., D] -> [..., D]; "model.layers.N.mlp." in the checkpoint.
class MlpBlock : public torch::nn::Module {
 public:
  virtual torch::Tensor forward(const torch::Tensor& hidden, const ForwardContext& context) = 0;
};

// Turns pairs of x [B, H, T, E] by the context's tables. Half-split: (i, i + E/2) are a pair, as
// Llama and Qwen have it; interleaved: (2i, 2i + 1), as DeepSeek has it. The result of the second
// is half-split: scores are the same, and it saves a copy.
torch::Tensor rotate_half_split(const torch::Tensor& x, const ForwardContext& context);
torch::Tensor rotate_interleaved(const torch::Tensor& x, const ForwardContext& context);

struct AttendOptions {
  double scale = 0;
  bool window = false;  // this layer has the sliding window
};

// Softmax attention of query [B, H, T, E] over key [B, K, T, E] and value [B, K, T, V], rotated
// already: [B, T, H * V]. With a cache, `layer`'s place in it is written first, and decoding sees
// all that is in it.
torch::Tensor attend(const torch::Tensor& query, torch::Tensor key, torch::Tensor value,
                     int64_t layer, const ForwardContext& context, const AttendOptions& options);

// Where a block is made for.
struct BlockSite {
  const ModelConfig& config;
  int64_t layer = 0;
  torch::Device device = torch::kCPU;  // of its parameters
  // Null, or the ranks over which the experts are sharded. Borrowed.
  collectives::Communicator* expert_ranks = nullptr;
};

// A user's blocks by name. The model's config names the one to use (attention_block, mlp_block).
class BlockRegistry {
 public:
  using AttentionFactory = std::function<std::shared_ptr<AttentionBlock>(const BlockSite&)>;
  using MlpFactory = std::function<std::shared_ptr<MlpBlock>(const BlockSite&)>;

  // Throws InvalidArgument for a name that is taken or empty.
  void add_attention(const std::string& name, AttentionFactory factory);
  void add_mlp(const std::string& name, MlpFactory factory);

  // The block that the config asks for: a registered one by name, or the built-in one of the
  // architecture. Throws NotFound naming the nearest.
  std::shared_ptr<AttentionBlock> make_attention(const BlockSite& site) const;
  std::shared_ptr<MlpBlock> make_mlp(const BlockSite& site) const;

 private:
  std::map<std::string, AttentionFactory> attentions_;
  std::map<std::string, MlpFactory> mlps_;
};

}  // namespace deepseek_train::models
