#include "src/models/rotary_embedding.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace deepseek_train::models {
namespace {

// theta^(2i/E). The base is rounded to float32 by pow's kernel, as in Hugging Face's tensors.
torch::Tensor plain_periods(const ModelConfig& config) {
  auto exponents = torch::arange(0, config.head_dim, 2, at::kFloat) / config.head_dim;
  return torch::pow(config.rope.rope_theta, exponents);
}

// Llama 3: long waves are stretched by `factor`, short ones kept, those between blended.
torch::Tensor llama3_frequencies(const RopeParameters& rope, const torch::Tensor& frequencies) {
  const auto original = static_cast<double>(rope.original_max_position_embeddings);
  const double longest = original / rope.low_freq_factor,
               shortest = original / rope.high_freq_factor;
  auto wavelength = 2 * std::numbers::pi / frequencies;
  auto stretched = torch::where(wavelength > longest, frequencies / rope.factor, frequencies);
  auto smooth = (original / wavelength - rope.low_freq_factor) /
                (rope.high_freq_factor - rope.low_freq_factor);
  auto blended = (1 - smooth) * stretched / rope.factor + smooth * stretched;
  auto between = (wavelength >= shortest).logical_and(wavelength <= longest);
  return torch::where(between, blended, stretched);
}

// The dimension that turns `rotations` times within the original context.
double correction_dimension(double rotations, const ModelConfig& config) {
  const auto original = static_cast<double>(config.rope.original_max_position_embeddings);
  return static_cast<double>(config.head_dim) *
         std::log(original / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(config.rope.rope_theta));
}

// YaRN: fast dimensions keep their frequency, slow ones are interpolated, a ramp in between.
torch::Tensor yarn_frequencies(const ModelConfig& config) {
  const auto& rope = config.rope;
  double low = correction_dimension(rope.beta_fast, config);
  double high = correction_dimension(rope.beta_slow, config);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(config.head_dim - 1));
  if (low == high) high += 0.001;
  auto ramp = ((torch::arange(config.head_dim / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
  auto periods = plain_periods(config);
  auto kept = 1 - ramp;
  return 1.0 / (rope.factor * periods) * (1 - kept) + 1.0 / periods * kept;
}

double yarn_attention_factor(const RopeParameters& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.mscale.value_or(0) != 0 && rope.mscale_all_dim.value_or(0) != 0)
    return yarn_mscale(rope.factor, *rope.mscale) / yarn_mscale(rope.factor, *rope.mscale_all_dim);
  return yarn_mscale(rope.factor, 1);
}

}  // namespace

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

RotaryEmbedding::RotaryEmbedding(const ModelConfig& config) {
  const auto& rope = config.rope;
  inverse_frequencies_ = 1.0 / plain_periods(config);
  if (rope.rope_type == "linear") inverse_frequencies_ /= rope.factor;
  if (rope.rope_type == "llama3")
    inverse_frequencies_ = llama3_frequencies(rope, inverse_frequencies_);
  if (rope.rope_type == "yarn") {
    inverse_frequencies_ = yarn_frequencies(config);
    attention_factor_ = yarn_attention_factor(rope);
  }
}

std::pair<torch::Tensor, torch::Tensor> RotaryEmbedding::tables(const torch::Tensor& positions,
                                                                at::ScalarType dtype) const {
  torch::NoGradGuard no_grad;
  auto angles =
      positions.unsqueeze(-1).to(at::kFloat) * inverse_frequencies_.to(positions.device());
  auto both = torch::cat({angles, angles}, -1);
  return {(both.cos() * attention_factor_).to(dtype), (both.sin() * attention_factor_).to(dtype)};
}

}  // namespace deepseek_train::models
