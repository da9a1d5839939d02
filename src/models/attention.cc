// What all attentions share: rotation, the cache and the softmax itself.
#include "deepseek_train/core/error.h"
#include "deepseek_train/models/blocks.h"
#include "deepseek_train/ops/fused.h"

namespace deepseek_train::models {
namespace {

// cos and sin broadcast over the heads of [B, H, T, E].
std::pair<torch::Tensor, torch::Tensor> over_heads(const ForwardContext& context) {
  if (!context.decoding) return {context.cos, context.sin};
  return {context.cos.unsqueeze(1), context.sin.unsqueeze(1)};
}

void store(torch::Tensor& past, torch::Tensor& now, const ForwardContext& context) {
  if (!context.decoding) {
    past.narrow(2, 0, now.size(2)).copy_(now);
    return;
  }
  past.scatter_(2, context.cache->lengths.view({-1, 1, 1, 1}).expand(now.sizes()), now);
  now = past;
}

// Keys repeated for the query heads that share them.
torch::Tensor repeat_heads(const torch::Tensor& x, int64_t heads) {
  const auto times = heads / x.size(1);
  if (times == 1) return x;
  return x.unsqueeze(2)
      .expand({x.size(0), x.size(1), times, x.size(2), x.size(3)})
      .reshape({x.size(0), heads, x.size(2), x.size(3)});
}

torch::Tensor causal_mask(int64_t tokens, const torch::Device& device) {
  return torch::ones({tokens, tokens}, torch::dtype(at::kBool).device(device)).tril();
}

// Hugging Face's eager attention, operation by operation.
torch::Tensor eager(const torch::Tensor& query, const torch::Tensor& key,
                    const torch::Tensor& value, torch::Tensor mask, double scale) {
  auto scores = torch::matmul(query, repeat_heads(key, query.size(1)).transpose(2, 3)) * scale;
  if (!mask.defined()) mask = causal_mask(query.size(2), query.device());
  scores = scores.masked_fill(mask.logical_not(), -std::numeric_limits<double>::infinity());
  auto weights = torch::softmax(scores, -1, at::kFloat).to(query.scalar_type());
  return torch::matmul(weights, repeat_heads(value, query.size(1)));
}

}  // namespace

torch::Tensor rotate_half_split(const torch::Tensor& x, const ForwardContext& context) {
  if (context.numerics == Numerics::kFast && !context.decoding)
    return ops::rotate_halves(x, context.cos, context.sin);
  auto [cos, sin] = over_heads(context);
  auto halves = x.chunk(2, -1);
  return x * cos + torch::cat({-halves[1], halves[0]}, -1) * sin;
}

torch::Tensor rotate_interleaved(const torch::Tensor& x, const ForwardContext& context) {
  auto [cos, sin] = over_heads(context);
  const auto half = x.size(-1) / 2;
  cos = cos.narrow(-1, 0, half);
  sin = sin.narrow(-1, 0, half);
  auto pairs = x.unflatten(-1, {half, 2}).to(cos.scalar_type()).unbind(-1);
  return torch::cat({pairs[0] * cos - pairs[1] * sin, pairs[1] * cos + pairs[0] * sin}, -1)
      .to(x.scalar_type());
}

torch::Tensor attend(const torch::Tensor& query, torch::Tensor key, torch::Tensor value,
                     int64_t layer, const ForwardContext& context, const AttendOptions& options) {
  if (context.cache) {
    const auto index = static_cast<size_t>(layer);
    store(context.cache->keys[index], key, context);
    store(context.cache->values[index], value, context);
  }
  const auto& mask = options.window ? context.window_mask : context.mask;
  torch::Tensor attended;
  if (context.numerics == Numerics::kReference) {
    attended = eager(query, key, value, mask, options.scale);
  } else {
    attended = at::scaled_dot_product_attention(
        query, key, value, mask.defined() ? std::optional(mask) : std::nullopt, /*dropout_p=*/0.0,
        /*is_causal=*/!mask.defined() && query.size(2) > 1, options.scale,
        /*enable_gqa=*/query.size(1) != key.size(1));
  }
  return attended.transpose(1, 2).flatten(2);
}

KvCache::KvCache(const std::vector<CacheLayout>& layouts, int64_t batch_size, int64_t capacity,
                 const torch::TensorOptions& options)
    : lengths(torch::zeros({batch_size}, options.dtype(at::kLong))) {
  auto make = [&](const CacheLayout& layout, int64_t size) {
    return torch::zeros({batch_size, layout.heads, capacity, size}, options);
  };
  for (const auto& layout : layouts) {
    keys.push_back(make(layout, layout.key_size));
    values.push_back(layout.value_size > 0 ? make(layout, layout.value_size) : torch::Tensor());
  }
}

int64_t KvCache::bytes_per_token() const {
  int64_t bytes = 0;
  for (const auto* tensors : {&keys, &values})
    for (const auto& tensor : *tensors)
      if (tensor.defined()) bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes / (capacity() * lengths.size(0));
}

}  // namespace deepseek_train::models
