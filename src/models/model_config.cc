#include "deepseek_train/models/model_config.h"

#include <array>
#include <nlohmann/json.hpp>

#include "deepseek_train/core/error.h"
#include "src/models/config_reader.h"

namespace deepseek_train::models {
namespace {

using nlohmann::json;

constexpr std::array<std::pair<Architecture, std::string_view>, 5> kModelTypes = {
    {{Architecture::kLlama, "llama"},
     {Architecture::kQwen2, "qwen2"},
     {Architecture::kQwen3, "qwen3"},
     {Architecture::kDeepseekV2, "deepseek_v2"},
     {Architecture::kDeepseekV3, "deepseek_v3"}}};

bool has(const json& config, const char* key) {
  auto found = config.find(key);
  return found != config.end() && !found->is_null();
}

template <typename T>
T required(const json& config, const char* key) {
  DST_CHECK(has(config, key), "config.json has no \"", key,
            "\", which this model needs; is the file complete?");
  try {
    return config.at(key).get<T>();
  } catch (const json::exception&) {
    throw InvalidArgument(concat("config.json: \"", key, "\" is ", config.at(key).dump(),
                                 ", wanted ",
                                 std::is_same_v<T, bool>          ? "true or false"
                                 : std::is_same_v<T, std::string> ? "a text"
                                                                  : "a number"));
  }
}

template <typename T>
T optional_or(const json& config, const char* key, T otherwise) {
  return has(config, key) ? required<T>(config, key) : otherwise;
}

template <typename T>
std::optional<T> optional_of(const json& config, const char* key) {
  if (!has(config, key)) return std::nullopt;
  return required<T>(config, key);
}

std::vector<int64_t> token_ids(const json& config, const char* key) {
  if (!has(config, key)) return {};
  if (config.at(key).is_array()) return required<std::vector<int64_t>>(config, key);
  return {required<int64_t>(config, key)};
}

Architecture architecture_of(const json& config) {
  auto type = config.value("model_type", std::string("(none)"));
  std::string known;
  for (auto [architecture, name] : kModelTypes) {
    if (name == type) return architecture;
    known += concat(known.empty() ? "" : ", ", name);
  }
  throw InvalidArgument(concat("unknown architecture: config.json has model_type \"", type,
                               "\"; implemented: ", known));
}

// The newer generation keeps all of rope's values in rope_parameters; the older has rope_theta
// beside rope_scaling.
RopeParameters read_rope(const json& config) {
  json rope = json::object();
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (has(config, key)) {
      DST_CHECK(config.at(key).is_object(), "config.json: \"", key, "\" is ", config.at(key).dump(),
                ", wanted an object");
      rope = config.at(key);
    }
  RopeParameters result;
  result.rope_type =
      optional_or(rope, "rope_type", optional_or(rope, "type", std::string("default")));
  result.rope_theta = has(rope, "rope_theta") ? required<double>(rope, "rope_theta")
                                              : required<double>(config, "rope_theta");
  DST_CHECK(optional_or(rope, "partial_rotary_factor", 1.0) == 1.0,
            "config.json asks for partial_rotary_factor ", rope.at("partial_rotary_factor").dump(),
            "; only whole heads are rotated here");
  const auto& type = result.rope_type;
  DST_CHECK(type == "default" || type == "linear" || type == "llama3" || type == "yarn",
            "config.json asks for rope type \"", type,
            "\"; implemented: default, linear, llama3, yarn");
  if (type == "default") return result;
  const auto positions = required<int64_t>(config, "max_position_embeddings");
  result.original_max_position_embeddings =
      optional_or(rope, "original_max_position_embeddings",
                  optional_or(config, "original_max_position_embeddings", positions));
  result.factor = type == "yarn" && !has(rope, "factor")
                      ? static_cast<double>(positions) /
                            static_cast<double>(result.original_max_position_embeddings)
                      : required<double>(rope, "factor");
  if (type == "llama3") {
    result.low_freq_factor = required<double>(rope, "low_freq_factor");
    result.high_freq_factor = required<double>(rope, "high_freq_factor");
  }
  if (type == "yarn") {
    result.beta_fast = optional_or(rope, "beta_fast", 32.0);
    result.beta_slow = optional_or(rope, "beta_slow", 1.0);
    result.truncate = optional_or(rope, "truncate", true);
    result.attention_factor = optional_of<double>(rope, "attention_factor");
    result.mscale = optional_of<double>(rope, "mscale");
    result.mscale_all_dim = optional_of<double>(rope, "mscale_all_dim");
  }
  return result;
}

MlaConfig read_mla(const json& config) {
  return {.q_lora_rank = optional_of<int64_t>(config, "q_lora_rank"),
          .kv_lora_rank = required<int64_t>(config, "kv_lora_rank"),
          .qk_nope_head_dim = required<int64_t>(config, "qk_nope_head_dim"),
          .qk_rope_head_dim = required<int64_t>(config, "qk_rope_head_dim"),
          .v_head_dim = required<int64_t>(config, "v_head_dim"),
          .rope_interleave = optional_or(config, "rope_interleave", true)};
}

// A key that must have one value, if it is there at all, for the model to be what it is taken for.
void expect(const json& config, const char* key, const json& wanted) {
  DST_CHECK(!has(config, key) || config.at(key) == wanted, "config.json has ", key, " ",
            config.value(key, json()).dump(),
            "; implemented for this architecture: ", wanted.dump());
}

MoeConfig read_moe(const json& config, Architecture architecture) {
  const bool v3 = architecture == Architecture::kDeepseekV3;
  expect(config, "moe_layer_freq", 1);
  expect(config, "scoring_func", v3 ? "sigmoid" : "softmax");
  MoeConfig moe;
  moe.router = v3 ? RouterKind::kSigmoidBiased : RouterKind::kSoftmax;
  moe.n_routed_experts = required<int64_t>(config, "n_routed_experts");
  moe.n_shared_experts = optional_or<int64_t>(config, "n_shared_experts", 0);
  moe.num_experts_per_tok = required<int64_t>(config, "num_experts_per_tok");
  moe.moe_intermediate_size = required<int64_t>(config, "moe_intermediate_size");
  moe.first_k_dense_replace = optional_or<int64_t>(config, "first_k_dense_replace", 0);
  moe.norm_topk_prob = optional_or(config, "norm_topk_prob", false);
  moe.routed_scaling_factor = optional_or(config, "routed_scaling_factor", 1.0);
  moe.aux_loss_alpha = optional_or(config, "aux_loss_alpha", 0.0);
  auto method = optional_or(config, "topk_method", std::string(v3 ? "noaux_tc" : "greedy"));
  if (v3) {
    expect(config, "topk_method", "noaux_tc");
  } else {
    DST_CHECK(method == "greedy" || method == "group_limited_greedy",
              "config.json has topk_method \"", method,
              "\"; implemented for deepseek_v2: greedy, group_limited_greedy");
    // transformers always scales, DeepSeek's own code normalises instead: no reference to follow.
    DST_CHECK(!moe.norm_topk_prob,
              "config.json sets norm_topk_prob for deepseek_v2, on which "
              "transformers and DeepSeek's own code disagree; it is not implemented");
  }
  if (method != "greedy") {
    moe.n_group = optional_or<int64_t>(config, "n_group", 1);
    moe.topk_group = optional_or<int64_t>(config, "topk_group", 1);
  }
  return moe;
}

void read_biases(const json& config, ModelConfig& result) {
  if (result.architecture == Architecture::kQwen2) {
    result.attention_bias = true;  // on q, k and v always; Qwen2 has no key for it
    return;
  }
  result.attention_bias = optional_or(config, "attention_bias", false);
  result.attention_output_bias = result.attention_bias;
  if (result.architecture != Architecture::kQwen3)
    result.mlp_bias = optional_or(config, "mlp_bias", false);
}

void read_window(const json& config, ModelConfig& result) {
  if (result.architecture != Architecture::kQwen2 && result.architecture != Architecture::kQwen3)
    return;
  if (!optional_or(config, "use_sliding_window", false)) return;
  result.sliding_window = required<int64_t>(config, "sliding_window");
  result.max_window_layers = required<int64_t>(config, "max_window_layers");
  if (!has(config, "layer_types")) return;
  const auto types = required<std::vector<std::string>>(config, "layer_types");
  for (int64_t i = 0; i < static_cast<int64_t>(types.size()); ++i)
    DST_CHECK(types[static_cast<size_t>(i)] ==
                  (result.uses_window(i) ? "sliding_attention" : "full_attention"),
              "config.json: layer_types[", i, "] is \"", types[static_cast<size_t>(i)],
              "\", which does not follow from max_window_layers ", result.max_window_layers,
              "; other patterns are not implemented");
}

int64_t read_head_dim(const json& config, const ModelConfig& result) {
  if (result.mla) return result.mla->qk_rope_head_dim;
  if (result.architecture == Architecture::kQwen3) return required<int64_t>(config, "head_dim");
  DST_CHECK(result.num_attention_heads > 0, "config.json: num_attention_heads is ",
            result.num_attention_heads);
  return optional_or(config, "head_dim", result.hidden_size / result.num_attention_heads);
}

std::string other_keys_of(json config, const ModelConfig& known) {
  const auto written = json::parse(to_config_json(known, "float32"));
  for (const auto& [key, unused] : written.items()) config.erase(key);
  config.erase("quantization_config");
  return config.dump();
}

}  // namespace

std::string_view model_type(Architecture architecture) {
  for (auto [known, name] : kModelTypes)
    if (known == architecture) return name;
  throw Internal("an Architecture without a name");
}

void check_shape(const ModelConfig& c) {
  std::vector<std::pair<const char*, int64_t>> sizes = {
      {"vocab_size", c.vocab_size},
      {"hidden_size", c.hidden_size},
      {"intermediate_size", c.intermediate_size},
      {"num_hidden_layers", c.num_hidden_layers},
      {"num_attention_heads", c.num_attention_heads},
      {"head_dim", c.head_dim},
      {"num_key_value_heads", c.num_key_value_heads},
      {"max_position_embeddings", c.max_position_embeddings},
      {"sliding_window", c.sliding_window.value_or(1)}};
  if (c.mla)
    sizes.insert(sizes.end(), {{"q_lora_rank", c.mla->q_lora_rank.value_or(1)},
                               {"kv_lora_rank", c.mla->kv_lora_rank},
                               {"qk_nope_head_dim", c.mla->qk_nope_head_dim},
                               {"v_head_dim", c.mla->v_head_dim}});
  if (c.moe)
    sizes.insert(sizes.end(), {{"n_routed_experts", c.moe->n_routed_experts},
                               {"num_experts_per_tok", c.moe->num_experts_per_tok},
                               {"moe_intermediate_size", c.moe->moe_intermediate_size},
                               {"n_group", c.moe->n_group},
                               {"topk_group", c.moe->topk_group}});
  for (auto [name, value] : sizes)
    DST_CHECK(value > 0 && value < (int64_t{1} << 31), "the model's ", name, " is ", value,
              ", which cannot be");
  DST_CHECK(c.num_attention_heads % c.num_key_value_heads == 0, "the model has ",
            c.num_attention_heads, " attention heads for ", c.num_key_value_heads,
            " key-value heads; the first must be a multiple of the second");
  DST_CHECK(c.head_dim % 2 == 0, "the model's head_dim is ", c.head_dim,
            "; rotary positions need an even one");
  DST_CHECK(c.rope.rope_theta > 0 && c.rms_norm_eps > 0 && c.rope.factor > 0,
            "the model has rope_theta ", c.rope.rope_theta, ", rope factor ", c.rope.factor,
            " and rms_norm_eps ", c.rms_norm_eps, "; all must be above zero");
  if (!c.moe) return;
  DST_CHECK(c.moe->n_routed_experts % c.moe->n_group == 0 && c.moe->topk_group <= c.moe->n_group,
            "the model has ", c.moe->n_routed_experts, " experts in ", c.moe->n_group,
            " groups, of which ", c.moe->topk_group, " are chosen; that cannot be");
  DST_CHECK(
      c.moe->num_experts_per_tok <= c.moe->n_routed_experts / c.moe->n_group * c.moe->topk_group,
      "the model chooses ", c.moe->num_experts_per_tok,
      " experts a token, more than there are to choose from");
}

ModelConfig model_config_from_json(std::string_view config_json) {
  json config = json::parse(config_json, nullptr, /*allow_exceptions=*/false);
  DST_CHECK_AS(DataCorruption, config.is_object(), "config.json is not a JSON object");
  ModelConfig result;
  result.architecture = architecture_of(config);
  expect(config, "hidden_act", "silu");
  const bool deepseek = result.architecture == Architecture::kDeepseekV2 ||
                        result.architecture == Architecture::kDeepseekV3;
  result.vocab_size = required<int64_t>(config, "vocab_size");
  result.hidden_size = required<int64_t>(config, "hidden_size");
  result.intermediate_size = required<int64_t>(config, "intermediate_size");
  result.num_hidden_layers = required<int64_t>(config, "num_hidden_layers");
  result.num_attention_heads = required<int64_t>(config, "num_attention_heads");
  result.num_key_value_heads =
      optional_or(config, "num_key_value_heads", result.num_attention_heads);
  if (deepseek) result.mla = read_mla(config);
  if (deepseek) result.moe = read_moe(config, result.architecture);
  result.head_dim = read_head_dim(config, result);
  result.max_position_embeddings = required<int64_t>(config, "max_position_embeddings");
  result.rms_norm_eps = required<double>(config, "rms_norm_eps");
  result.rope = read_rope(config);
  result.tie_word_embeddings = optional_or(config, "tie_word_embeddings", false);
  read_biases(config, result);
  result.qk_norm = result.architecture == Architecture::kQwen3;
  read_window(config, result);
  if (result.architecture == Architecture::kDeepseekV3)
    result.num_nextn_predict_layers = optional_or<int64_t>(config, "num_nextn_predict_layers", 0);
  result.bos_token_id = optional_of<int64_t>(config, "bos_token_id");
  result.eos_token_ids = token_ids(config, "eos_token_id");
  result.pad_token_id = optional_of<int64_t>(config, "pad_token_id");
  result.attention_block = optional_or(config, "dst_attention_block", std::string());
  result.mlp_block = optional_or(config, "dst_mlp_block", std::string());
  check_shape(result);
  result.other_keys = other_keys_of(config, result);
  return result;
}

}  // namespace deepseek_train::models
