// Expert-specialized fine-tuning (Wang et al. 2024, arXiv 2407.01906): of a mixture of experts only
// those experts are trained that the user's data goes to; all else stays frozen, routers included.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "deepseek_train/models/transformer.h"

namespace deepseek_train::tuning {

// What an expert is scored by: how many of the tokens choose it, or the sum of their routing
// weights for it. "token" and "gate" in DeepSeek's scripts.
enum class ExpertScore { kTokenShare, kGateWeight };
ExpertScore expert_score_by_name(std::string_view name);

// By layer, a score for each expert; the scores of a layer add up to one.
using ExpertScores = std::map<int64_t, std::vector<double>>;

// Runs the model over `samples`, each token ids [B, T] int64 without padding (the paper takes
// 131,072 tokens in all), without gradients. Throws InvalidArgument for a model without experts and
// for no samples.
ExpertScores score_experts(models::Transformer& model, const std::vector<torch::Tensor>& samples,
                           ExpertScore score);

// DeepSeek's expert_config.json.
struct ExpertConfig {
  std::map<int64_t, std::vector<int64_t>> experts;  // by layer
  bool shared_experts = false;                      // train them too
  bool non_expert_modules = false;                  // attention, norms, routers, embeddings too
};

// In each layer the best experts, until their scores reach `top_p` (above 0, at most 1); of equal
// ones the lower number. The shipped script divides by sums over the layers in place of the
// experts; its published scores, and this, by those over the experts of a layer.
ExpertConfig choose_experts(const ExpertScores& scores, double top_p);

// Lets exactly these parameters require gradients and makes them float32 masters; returns their
// names. Throws InvalidArgument for a layer or expert that the model does not have, or a layer with
// experts that the config leaves out.
std::vector<std::string> train_experts(models::Transformer& model, const ExpertConfig& config);

std::string to_json(const ExpertConfig& config);
// Throws DataCorruption naming the key; `origin` stands for the file's name.
ExpertConfig parse_expert_config(std::string_view json, const std::string& origin);

}  // namespace deepseek_train::tuning
