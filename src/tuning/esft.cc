#include "deepseek_train/tuning/esft.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "deepseek_train/core/error.h"

namespace deepseek_train::tuning {
namespace {

std::vector<int64_t> expert_layers(const models::ModelConfig& config) {
  std::vector<int64_t> layers;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer)
    if (config.uses_experts(layer)) layers.push_back(layer);
  DST_CHECK(!layers.empty(),
            "the model has no mixture of experts; ESFT is for those, take LoRA for a dense one");
  return layers;
}

// Each layer for itself.
void normalise(ExpertScores& scores) {
  for (auto& [layer, values] : scores) {
    const double sum = std::accumulate(values.begin(), values.end(), 0.0);
    DST_CHECK(sum > 0, "no token reached an expert of layer ", layer, "; score on more text");
    for (double& value : values) value /= sum;
  }
}

std::vector<int64_t> best_until(const std::vector<double>& scores, double top_p) {
  std::vector<int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  size_t count = 0;
  for (double sum = 0; count < order.size() && sum < top_p; ++count)
    sum += scores[static_cast<size_t>(order[count])];
  order.resize(count);
  return order;
}

void check_fits(const models::ModelConfig& model, const ExpertConfig& config) {
  const auto layers = expert_layers(model);
  for (int64_t layer : layers)
    DST_CHECK(config.experts.contains(layer), "the expert config says nothing of layer ", layer,
              ", which has experts; give it an empty list to train none there");
  for (const auto& [layer, experts] : config.experts) {
    DST_CHECK(std::find(layers.begin(), layers.end(), layer) != layers.end(),
              "the expert config names layer ", layer, ", the model has experts in ", layers);
    for (int64_t expert : experts)
      DST_CHECK(expert >= 0 && expert < model.moe->n_routed_experts,
                "the expert config names expert ", expert, " of layer ", layer, ", the model has ",
                model.moe->n_routed_experts);
  }
}

// What trains, by name.
class Choice {
 public:
  explicit Choice(const ExpertConfig& config) : config_(config) {
    for (const auto& [layer, experts] : config.experts) {
      const auto mlp = concat("model.layers.", layer, ".mlp.");
      expert_prefixes_.push_back(mlp + "experts.");
      shared_prefixes_.push_back(mlp + "shared_experts.");
      for (int64_t expert : experts) chosen_.push_back(concat(mlp, "experts.", expert, "."));
    }
  }
  bool trains(const std::string& name) const {
    if (begins_with_any(name, chosen_)) return true;
    if (begins_with_any(name, expert_prefixes_)) return false;
    if (begins_with_any(name, shared_prefixes_)) return config_.shared_experts;
    return config_.non_expert_modules;
  }

 private:
  static bool begins_with_any(const std::string& name, const std::vector<std::string>& prefixes) {
    return std::any_of(prefixes.begin(), prefixes.end(),
                       [&](const auto& prefix) { return name.starts_with(prefix); });
  }

  const ExpertConfig& config_;
  std::vector<std::string> chosen_, expert_prefixes_, shared_prefixes_;
};

int64_t layer_number(const std::string& text, const std::string& origin) {
  DST_CHECK_AS(DataCorruption,
               !text.empty() && text.size() < 6 &&
                   std::all_of(text.begin(), text.end(),
                               [](unsigned char c) { return c >= '0' && c <= '9'; }),
               origin, ": \"experts\" has the key \"", text, "\", wanted a layer's number");
  return std::stoll(text);
}

}  // namespace

ExpertScore expert_score_by_name(std::string_view name) {
  if (name == "token") return ExpertScore::kTokenShare;
  DST_CHECK(name == "gate", "\"", name, "\" is no score of experts; wanted token or gate");
  return ExpertScore::kGateWeight;
}

ExpertScores score_experts(models::Transformer& model, const std::vector<torch::Tensor>& samples,
                           ExpertScore score) {
  torch::NoGradGuard no_grad;
  const auto layers = expert_layers(model.config());
  DST_CHECK(!samples.empty(), "experts cannot be scored without samples");
  ExpertScores scores;
  for (const auto& ids : samples) {
    models::RoutingRecord routing;
    model.hidden_states(ids, &routing);
    for (const auto layer : layers) {
      const auto& found =
          (score == ExpertScore::kTokenShare ? routing.loads : routing.gate_weights).at(layer);
      auto counts = found.to(at::kDouble).cpu().contiguous();
      auto& sums = scores[layer];
      sums.resize(static_cast<size_t>(counts.numel()));
      for (size_t expert = 0; expert < sums.size(); ++expert)
        sums[expert] += counts.const_data_ptr<double>()[expert];
    }
  }
  normalise(scores);
  return scores;
}

ExpertConfig choose_experts(const ExpertScores& scores, double top_p) {
  DST_CHECK(top_p > 0 && top_p <= 1, "top_p is ", top_p, ", wanted above 0 and at most 1");
  ExpertConfig config;
  for (const auto& [layer, values] : scores) config.experts[layer] = best_until(values, top_p);
  return config;
}

std::vector<std::string> train_experts(models::Transformer& model, const ExpertConfig& config) {
  check_fits(model.config(), config);
  const Choice choice(config);
  std::vector<std::string> names;
  for (auto& item : model.named_parameters()) {
    auto& parameter = item.value();
    const bool trains = choice.trains(item.key());
    if (trains) parameter.set_data(parameter.detach().to(at::kFloat));
    parameter.requires_grad_(trains);
    if (trains) names.push_back(item.key());
  }
  DST_CHECK(!names.empty(), "the expert config trains nothing: all its lists are empty");
  return names;
}

std::string to_json(const ExpertConfig& config) {
  nlohmann::ordered_json json;
  auto& experts = json["experts"] = nlohmann::ordered_json::object();
  for (const auto& [layer, chosen] : config.experts) experts[std::to_string(layer)] = chosen;
  json["shared_experts"] = config.shared_experts;
  json["non_expert_modules"] = config.non_expert_modules;
  return json.dump() + "\n";
}

ExpertConfig parse_expert_config(std::string_view text, const std::string& origin) {
  auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  DST_CHECK_AS(DataCorruption,
               json.is_object() && json.contains("experts") && json["experts"].is_object(), origin,
               " is no expert config: wanted a JSON object with \"experts\" by layer");
  ExpertConfig config;
  try {
    for (const auto& [key, value] : json["experts"].items()) {
      auto& experts = config.experts[layer_number(key, origin)] = value.get<std::vector<int64_t>>();
      const std::set<int64_t> distinct(experts.begin(), experts.end());
      DST_CHECK_AS(DataCorruption, distinct.size() == experts.size(), origin, ": layer ", key,
                   " names an expert twice");
    }
    config.shared_experts = json.value("shared_experts", false);
    config.non_expert_modules = json.value("non_expert_modules", false);
  } catch (const nlohmann::json::exception& error) {
    throw DataCorruption(concat(origin, ": a value is of another kind: ", error.what()));
  }
  return config;
}

}  // namespace deepseek_train::tuning
